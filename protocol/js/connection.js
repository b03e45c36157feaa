// One WebSocket from open to end: JSON-RPC calls on it, and the notice that it is dead.
// Knows nothing of feeds, tokens or reconnecting; it ends exactly once, with a close code.

import { CallTimedOut, ConnectionLost, isRepeatable, MessageTooBig, RpcError } from "./errors.js";

// Node's WebSocket can fire `error` and never `close` (a refused upgrade): after this the error is the end.
const CLOSE_AFTER_ERROR_MS = 1_000;
const OPEN_TIMEOUT_MS = 10_000;
const MOST_CALLS = 256;
const MOST_MESSAGE_BYTES = 65_536;
const ABNORMAL = 1006;
const NONSENSE = 1002;

export class Connection {
  #socket;
  #hooks;
  #timers;
  #calls = new Map();
  #nextId = 1;
  #ended = false;
  #end = { code: ABNORMAL, reason: "" };
  #lastHeard;
  #deadAfterMs = OPEN_TIMEOUT_MS;
  #watchdog = null;
  #errorTimer = null;
  /** The welcome may name a lower bound. */
  maxMessageBytes = MOST_MESSAGE_BYTES;

  /**
   * @param socket a WebSocket that is connecting
   * @param hooks `{onNotification(method, params), onResult(method, result), onTraffic?(direction, text), onEnd(code, reason)}`;
   *   what the first two throw ends the connection: the server has said what makes no sense
   * @param timers `{setTimeout, clearTimeout, now}`
   * @param deadAfterMs with nothing heard for so long after it has opened the connection is dead
   */
  constructor(socket, hooks, timers, deadAfterMs) {
    this.#socket = socket;
    this.#hooks = hooks;
    this.#timers = timers;
    this.#lastHeard = timers.now();
    socket.onopen = () => {
      this.#heard();
      this.deadAfterMs = deadAfterMs;
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#over(event.code ?? ABNORMAL, event.reason ?? "");
    socket.onerror = () => {
      this.#errorTimer ??= timers.setTimeout(() => this.#over(ABNORMAL, "error"), CLOSE_AFTER_ERROR_MS);
    };
    this.#watch();
  }

  /** From now on the connection is dead after so much silence; Infinity: silence is no sign. */
  set deadAfterMs(value) {
    this.#deadAfterMs = value;
    this.#watch();
  }

  /** The answer's result. Rejects with RpcError, CallTimedOut, ConnectionLost or MessageTooBig. */
  call(method, params, timeoutMs) {
    if (this.#ended) return Promise.reject(new ConnectionLost(method, true, this.#end.code, this.#end.reason));
    if (this.#calls.size >= MOST_CALLS) {
      return Promise.reject(new RpcError({ code: -32009, message: "too many calls are waiting for answers", data: { temporary: true } }));
    }
    const id = this.#nextId++;
    const text = JSON.stringify({ jsonrpc: "2.0", id, method, params });
    const size = byteLength(text);
    if (size > this.maxMessageBytes) return Promise.reject(new MessageTooBig(method, size, this.maxMessageBytes));
    const repeatable = isRepeatable(method, params);
    return new Promise((resolve, reject) => {
      const timer = this.#timers.setTimeout(() => {
        this.#calls.delete(id);
        reject(new CallTimedOut(method, repeatable, timeoutMs));
      }, timeoutMs);
      this.#calls.set(id, { method, repeatable, resolve, reject, timer });
      this.#send(text);
    });
  }

  notify(method, params) {
    this.#send(JSON.stringify({ jsonrpc: "2.0", method, params }));
  }

  /** Ends the connection: `onEnd` is called at once, whether the network answers the close or not. */
  close(code, reason = "") {
    try {
      // A page may only say 1000 and 3000 to 4999 on the wire.
      this.#socket.close(code >= 3000 && code <= 4999 ? code : 1000);
    } catch {
      // still connecting, or gone already: either way it has ended for us
    }
    this.#over(code, reason);
  }

  #send(text) {
    if (this.#ended) return;
    this.#hooks.onTraffic?.("out", text);
    try {
      this.#socket.send(text);
    } catch {
      this.close(ABNORMAL, "send failed");
    }
  }

  #receive(data) {
    if (this.#ended) return;
    this.#heard();
    if (typeof data !== "string") return; // the server sends text only
    this.#hooks.onTraffic?.("in", data);
    try {
      const message = JSON.parse(data);
      if (typeof message.method === "string") this.#hooks.onNotification(message.method, message.params ?? {});
      else this.#answered(message);
    } catch (error) {
      this.close(NONSENSE, `the server sent nonsense: ${error.message}`.slice(0, 100));
    }
  }

  #answered(message) {
    const waiting = this.#calls.get(message.id);
    if (!waiting) return;
    this.#calls.delete(message.id);
    this.#timers.clearTimeout(waiting.timer);
    if (message.error) {
      waiting.reject(new RpcError(message.error));
      return;
    }
    // What an answer means for the feeds counts before anything that came after it is read.
    try {
      this.#hooks.onResult(waiting.method, message.result);
    } finally {
      waiting.resolve(message.result);
    }
  }

  #heard() {
    this.#lastHeard = this.#timers.now();
  }

  // One timer that is set anew only when it fires: a busy feed costs no timer per message.
  #watch() {
    if (this.#watchdog !== null) this.#timers.clearTimeout(this.#watchdog);
    this.#watchdog = null;
    if (this.#ended || this.#deadAfterMs === Infinity) return;
    const silence = this.#timers.now() - this.#lastHeard;
    if (silence >= this.#deadAfterMs) this.close(4408, "nothing heard");
    else this.#watchdog = this.#timers.setTimeout(() => this.#watch(), this.#deadAfterMs - silence);
  }

  #over(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    this.#end = { code, reason };
    for (const timer of [this.#watchdog, this.#errorTimer]) if (timer !== null) this.#timers.clearTimeout(timer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // Node throws on an error nobody listens to
    for (const { method, repeatable, reject, timer } of this.#calls.values()) {
      this.#timers.clearTimeout(timer);
      reject(new ConnectionLost(method, repeatable, code, reason));
    }
    this.#calls.clear();
    this.#hooks.onEnd(code, reason);
  }
}

// The bytes of the text as UTF-8; React Native has no TextEncoder everywhere.
function byteLength(text) {
  let bytes = text.length;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit > 0x7f) bytes += 1;
    if (unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff)) bytes += 1; // both halves of a pair: 2 + 2 = 4
  }
  return bytes;
}
