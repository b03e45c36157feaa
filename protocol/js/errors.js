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
}

/** The connection ended before the answer: the request may or may not have been done. */
export class ConnectionLost extends Error {
  constructor(code, reason) {
    super(`the connection ended (${code}${reason ? `, ${reason}` : ""}) before the answer`);
    this.name = "ConnectionLost";
    this.code = code;
    this.reason = reason;
  }
}

/** There is no connection at the moment: nothing was sent. */
export class NotConnected extends Error {
  constructor(status) {
    super(`not connected (${status}): nothing was sent`);
    this.name = "NotConnected";
    this.status = status;
  }
}

/** No answer came within the call's time: the request may or may not have been done. */
export class CallTimedOut extends Error {
  constructor(method, timeoutMs) {
    super(`no answer to ${method} within ${timeoutMs} ms`);
    this.name = "CallTimedOut";
    this.method = method;
  }
}
