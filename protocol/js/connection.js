// One WebSocket from open to end: JSON-RPC calls on it, and the notice that it is dead.
// Knows nothing of feeds, tokens or reconnecting; it ends exactly once, with a close code.

import { CallTimedOut, ConnectionLost, RpcError } from "./errors.js";

// Node's WebSocket can fire `error` and never `close` (a refused upgrade): after this the error is the end.
const CLOSE_AFTER_ERROR_MS = 1_000;
const MOST_CALLS = 256;
const ABNORMAL = 1006;

export class Connection {
  #socket;
  #hooks;
  #timers;
  #calls = new Map();
  #nextId = 1;
  #ended = false;
  #lastHeard;
  #deadAfterMs;
  #watchdog = null;
  #errorTimer = null;

  /**
   * @param socket a WebSocket that is connecting
   * @param hooks `{onOpen, onNotification(method, params), onReply?(id, message), onTraffic?(direction, text), onEnd(code, reason)}`
   * @param timers `{setTimeout, clearTimeout, now}`
   * @param deadAfterMs with nothing heard for so long the connection is dead (also while it opens)
   */
  constructor(socket, hooks, timers, deadAfterMs) {
    this.#socket = socket;
    this.#hooks = hooks;
    this.#timers = timers;
    this.#deadAfterMs = deadAfterMs;
    this.#lastHeard = timers.now();
    socket.onopen = () => {
      this.#heard();
      if (!this.#ended) hooks.onOpen?.();
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#end(event.code ?? ABNORMAL, event.reason ?? "");
    socket.onerror = () => {
      this.#errorTimer ??= timers.setTimeout(() => this.#end(ABNORMAL, "error"), CLOSE_AFTER_ERROR_MS);
    };
    this.#watch();
  }

  get ended() {
    return this.#ended;
  }

  /** From now on the connection is dead after so much silence. */
  set deadAfterMs(value) {
    this.#deadAfterMs = value;
    this.#watch();
  }

  /** The answer's result. Rejects with RpcError, CallTimedOut or ConnectionLost. */
  call(method, params, timeoutMs) {
    if (this.#calls.size >= MOST_CALLS) {
      return Promise.reject(new RpcError({ code: -32009, message: "too many calls are waiting for answers", data: { temporary: true } }));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = this.#timers.setTimeout(() => {
        this.#calls.delete(id);
        reject(new CallTimedOut(method, timeoutMs));
      }, timeoutMs);
      this.#calls.set(id, { resolve, reject, timer });
      this.#send({ jsonrpc: "2.0", id, method, params });
    });
  }

  notify(method, params) {
    this.#send({ jsonrpc: "2.0", method, params });
  }

  /** Ends the connection: `onEnd` is called at once, whether the network answers the close or not. */
  close(code, reason = "") {
    try {
      // A page may only say 1000 and 3000 to 4999 on the wire.
      this.#socket.close(code === 1000 || (code >= 3000 && code <= 4999) ? code : 1000, reason);
    } catch {
      // still connecting, or gone already: either way it has ended for us
    }
    this.#end(code, reason);
  }

  #send(message) {
    if (this.#ended) return;
    const text = JSON.stringify(message);
    this.#hooks.onTraffic?.("out", text);
    try {
      this.#socket.send(text);
    } catch {
      this.#end(ABNORMAL, "send failed");
    }
  }

  #receive(data) {
    if (this.#ended) return;
    this.#heard();
    if (typeof data !== "string") return; // the server sends text only
    this.#hooks.onTraffic?.("in", data);
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.close(4000, "the server sent text that is not JSON");
      return;
    }
    if (typeof message?.method === "string") this.#hooks.onNotification(message.method, message.params ?? {});
    else if (message?.id !== undefined) this.#answer(message);
  }

  #answer(message) {
    const waiting = this.#calls.get(message.id);
    if (!waiting) return;
    this.#calls.delete(message.id);
    this.#timers.clearTimeout(waiting.timer);
    if (message.error) waiting.reject(new RpcError(message.error));
    else waiting.resolve(message.result);
  }

  #heard() {
    this.#lastHeard = this.#timers.now();
  }

  // One timer that is set anew only when it fires: a busy feed costs no timer per message.
  #watch() {
    if (this.#watchdog !== null) this.#timers.clearTimeout(this.#watchdog);
    if (this.#ended) return;
    const silence = this.#timers.now() - this.#lastHeard;
    if (silence >= this.#deadAfterMs) {
      this.close(ABNORMAL, "nothing heard");
      return;
    }
    this.#watchdog = this.#timers.setTimeout(() => this.#watch(), this.#deadAfterMs - silence);
  }

  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#watchdog !== null) this.#timers.clearTimeout(this.#watchdog);
    if (this.#errorTimer !== null) this.#timers.clearTimeout(this.#errorTimer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // Node throws on an error nobody listens to
    for (const { reject, timer } of this.#calls.values()) {
      this.#timers.clearTimeout(timer);
      reject(new ConnectionLost(code, reason));
    }
    this.#calls.clear();
    this.#hooks.onEnd(code, reason);
  }
}
