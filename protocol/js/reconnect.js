// What a client does after a connection has ended. Pure: randomness comes in as an argument.
// The table is that of docs/protocol.md, "Close codes"; the Python client has the same one.

const FIRST_BACKOFF_MS = 1_000;
const MOST_BACKOFF_MS = 30_000;
const OVERLOAD_WAIT_MS = 30_000;
/** A connection that lived this long proves the way is good again: the backoff starts anew. */
export const STEADY_MS = 30_000;
/** No promise of the server is waited for longer than this. */
const MOST_RETRY_MS = 15 * 60_000;

/**
 * @param {number} code the close code (1006 where the socket gave none)
 * @param {string} reason the close reason, may hold `retryInMs=N`
 * @param {{failures: number, refusals: number}} history `failures`: ends in a row without a steady
 *   connection before this one; `refusals`: 4401 in a row before this one
 * @param {() => number} random in [0, 1)
 * @returns {{action: "reconnect"|"renew"|"signIn"|"stop", delayMs: number}}
 */
export function advice(code, reason, history, random) {
  switch (code) {
    case 1001:
    case 4408:
      return { action: "reconnect", delayMs: Math.floor(random() * 1_000) };
    case 1013:
    case 4429:
      return { action: "reconnect", delayMs: retryInMs(reason) ?? OVERLOAD_WAIT_MS };
    case 4401:
      return history.refusals > 0 ? { action: "signIn", delayMs: 0 } : { action: "renew", delayMs: 0 };
    case 4400:
    case 4403:
    case 4409:
      return { action: "stop", delayMs: 0 };
    default:
      return { action: "reconnect", delayMs: Math.floor(random() * backoffCapMs(history.failures)) };
  }
}

/** The upper bound of the full-jitter backoff after `failures` ends in a row. */
export function backoffCapMs(failures) {
  return Math.min(MOST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures, 10));
}

/** The `retryInMs` of a close reason, or null. */
export function retryInMs(reason) {
  const match = /(?:^|[^A-Za-z])retryInMs=(\d{1,9})/.exec(reason ?? "");
  return match ? Math.min(MOST_RETRY_MS, Number(match[1])) : null;
}
