// What a call can fail with. Each carries what a program needs; `message` is for people.

/** The server answered with an error object. `data.temporary` says whether to try again. */
export class RpcError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data ?? {};
  }
  get temporary() {
    return this.data.temporary === true;
  }
  /** When to try again, in milliseconds; null where trying again is of no use. */
  get retryInMs() {
    return typeof this.data.retryInMs === "number" ? this.data.retryInMs : null;
  }
}

/** The connection ended before the answer: the request may or may not have been done.
 *  `repeatable`: it can be sent once more without harm. */
export class ConnectionLost extends Error {
  constructor(method, repeatable, code, reason) {
    super(`${method}: the connection ended (${code}${reason ? `, ${reason}` : ""}) before the answer`);
    this.name = "ConnectionLost";
    Object.assign(this, { method, repeatable, code, reason });
  }
}

/** There was no connection in time: nothing was sent. */
export class NotConnected extends Error {
  constructor(method, status) {
    super(`${method}: not connected (${status}), nothing was sent`);
    this.name = "NotConnected";
    Object.assign(this, { method, status, repeatable: true });
  }
}

/** The request is over the protocol's bound for one message: nothing was sent. */
export class MessageTooBig extends Error {
  constructor(method, size, most) {
    super(`${method}: ${size} bytes are too big for one message (${most})`);
    this.name = "MessageTooBig";
    Object.assign(this, { method, repeatable: false });
  }
}

/** No answer came within the call's time: the request may or may not have been done. */
export class CallTimedOut extends Error {
  constructor(method, repeatable, timeoutMs) {
    super(`${method}: no answer within ${timeoutMs} ms`);
    this.name = "CallTimedOut";
    Object.assign(this, { method, repeatable });
  }
}

/** Whether a request does no more harm twice than once: all but an action without a `key`. */
export function isRepeatable(method, params) {
  return method !== "action.execute" || (params?.key !== undefined && params.key !== null);
}
