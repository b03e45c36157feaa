// The client: one live state that survives lost links, deploys and sleeping phones.
// What is known of the feeds is in following.js, what to do after an end in reconnect.js, one socket's life in
// connection.js; here they are joined.

import { Acks } from "./acks.js";
import { Connection } from "./connection.js";
import { NotConnected, RpcError } from "./errors.js";
import { DeltaError } from "./feed.js";
import { Following } from "./following.js";
import { advice, STEADY_MS } from "./reconnect.js";
import { browserSurroundings } from "./surroundings.js";

const SUBPROTOCOL = "freya.v1";
const CALL_TIMEOUT_MS = 15_000;
const WAKE_TIMEOUT_MS = 3_000;
const GRACE_MS = 10_000;
const DEFAULT_HEARTBEAT_MS = 25_000;
const MOST_TIMEOUT_MS = 2 ** 31 - 1;
const FEEDS_AT_ONCE = 50;
// RFC 6750's b64token: what is none must not reach the WebSocket, whose complaint would quote it.
const TOKEN = /^[A-Za-z0-9._~+/-]{1,6144}=*$/;

const systemTimers = {
  setTimeout: (fn, ms) => globalThis.setTimeout(fn, ms),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  now: () => Date.now(),
};

export class FreyaClient {
  #options;
  #url;
  #timers;
  #random;
  #following;
  #acks;
  #connection = null;
  #attempt = 0; // raised by every connect and stop: what an older attempt still does is ignored
  #failures = 0;
  #refusals = 0;
  #phase = "idle"; // "idle" | "running" | "stopped" | "signIn"
  #hidden = false;
  #welcome = null;
  #waiting = new Set(); // calls that wait for a connection
  #timersSet = { retry: null, steady: null, expiry: null };
  #listeners = new Set();
  #handlers = new Map();
  #stopSurroundings = () => {};
  #snapshot = Object.freeze({
    status: "idle", feed: null, items: Object.freeze([]), feeds: Object.freeze({}), welcome: null,
    degraded: null, draining: false, retryAt: null, closed: null,
  });

  /** @param {string} url `ws://host:port` or the page's own origin; the path defaults to /v1/feed */
  constructor(url, options = {}) {
    this.#options = { WebSocket: globalThis.WebSocket, delta: true, own: true, settings: true, pauseWhenHidden: true, ...options };
    if (typeof this.#options.WebSocket !== "function") throw new TypeError("there is no WebSocket here: give one as options.WebSocket");
    this.#url = feedUrl(url);
    this.#timers = options.timers ?? systemTimers;
    this.#random = options.random ?? Math.random;
    this.#following = new Following(this.#options.own);
    this.#acks = new Acks(this.#timers, (feed, cursor) => this.#connection?.notify("feed.ack", { feed, cursor }));
  }

  // --- life ---

  /** Connects and stays connected until `stop`, a terminal close code, or a refused sign-in. */
  start() {
    if (this.#phase === "running") return this;
    this.#phase = "running";
    this.#failures = this.#refusals = 0;
    const react = { hidden: () => this.hide(), shown: () => this.show(), online: () => this.wake(), offline: () => this.wake() };
    this.#stopSurroundings = (this.#options.surroundings ?? browserSurroundings)(react) ?? (() => {});
    if (this.#hidden) this.#publish();
    else this.#connect("connect");
    return this;
  }

  /** Ends the connection and keeps the last state on show. */
  stop() {
    if (this.#phase === "running") this.#giveUp("stopped", null);
  }

  /** The page is hidden or the app went to the background: pushes stop, the socket may end. */
  hide() {
    if (this.#hidden || !this.#options.pauseWhenHidden) return;
    this.#hidden = true;
    this.#clear("retry");
    if (this.#phase !== "running") return;
    this.#toBackground();
    this.#publish({ retryAt: null });
  }

  /** Back on screen: one delta from what was last shown, over the same socket or a new one. */
  show() {
    if (!this.#hidden) return;
    this.#hidden = false;
    if (this.#phase !== "running") return;
    if (this.#welcome) this.#probe("connection.foreground");
    if (this.#connection) this.#publish();
    else this.#connect("connect");
  }

  /** The network came or went, or the machine woke: a dead link is found within three seconds. */
  wake() {
    if (this.#phase !== "running" || this.#hidden) return;
    if (this.#welcome) this.#probe("connection.ping");
    else if (this.#timersSet.retry !== null) this.#connect("connect");
  }

  // --- the store: fits React's useSyncExternalStore(client.subscribe, client.getSnapshot) ---

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** The present state, the same frozen object until something changes. */
  getSnapshot = () => this.#snapshot;

  /** Calls `fn(params)` for every notification of that method ("*": `fn(method, params)` for all). */
  on(method, fn) {
    const fns = this.#handlers.get(method) ?? new Set();
    this.#handlers.set(method, fns.add(fn));
    return () => fns.delete(fn);
  }

  // --- requests ---

  /** The result of one request, waiting for a connection first where there is none. Never repeated by itself. */
  async call(method, params = {}, { timeoutMs = CALL_TIMEOUT_MS } = {}) {
    if (this.#welcome) return this.#connection.call(method, params, timeoutMs);
    const from = this.#timers.now();
    await this.#connected(method, timeoutMs);
    return this.#connection.call(method, params, Math.max(0, timeoutMs - (this.#timers.now() - from)));
  }

  /** Follows another user's feed (scope feed:watch) in `getSnapshot().feeds`, also over reconnects. */
  async watch(feed, { minIntervalMs } = {}) {
    this.#following.watch(feed, minIntervalMs);
    if (!this.#welcome) return;
    const refused = await this.#subscribeTo([feed]);
    if (refused.has(feed)) throw refused.get(feed);
  }

  async unwatch(feed) {
    if (!this.#following.unwatch(feed)) return;
    this.#publish();
    if (this.#welcome) await this.call("feed.unsubscribe", { feeds: [feed] });
  }

  // --- connecting ---

  async #connect(reason) {
    this.#clear("retry");
    const attempt = ++this.#attempt;
    this.#publish({ retryAt: null });
    let token;
    try {
      token = await this.#token(reason);
    } catch {
      if (attempt === this.#attempt) this.#ended(attempt, 1006, "no token could be had");
      return;
    }
    if (attempt !== this.#attempt) return;
    if (typeof token === "string" && TOKEN.test(token)) this.#open(attempt, token);
    else this.#giveUp("signIn", { code: 4401, reason: token ? "that is not a token" : "no token" });
  }

  #open(attempt, token) {
    const { WebSocket: Socket, socketOptions } = this.#options;
    const args = [this.#address(), [SUBPROTOCOL, `bearer.${token}`]];
    let socket;
    try {
      socket = socketOptions ? new Socket(...args, socketOptions) : new Socket(...args);
    } catch (error) {
      this.#giveUp("stopped", { code: 0, reason: String(error?.message ?? error) });
      return;
    }
    const hooks = {
      onNotification: (method, params) => attempt === this.#attempt && this.#notified(method, params),
      onResult: (method, result) => attempt === this.#attempt && this.#answered(method, result),
      onTraffic: this.#options.onTraffic,
      onEnd: (code, why) => this.#ended(attempt, code, why),
    };
    this.#connection = new Connection(socket, hooks, this.#timers, (this.#options.heartbeatMs ?? DEFAULT_HEARTBEAT_MS) + GRACE_MS);
  }

  #token(reason) {
    const { token } = this.#options;
    if (typeof token === "function") return token({ reason });
    return reason === "refused" ? null : token;
  }

  #address() {
    const { own, delta, settings, context, debug, deflate, minIntervalMs, heartbeatMs, client } = this.#options;
    const wanted = {
      beat: 1,
      since: this.#following.ownCursor,
      own: own ? undefined : 0,
      delta: delta ? undefined : 0,
      settings: settings ? undefined : 0,
      context: context ? 1 : undefined,
      debug: debug ? 1 : undefined,
      deflate: deflate === false ? 0 : undefined,
      minIntervalMs,
      heartbeatMs,
      client,
    };
    const query = Object.entries(wanted)
      .filter(([, value]) => value !== undefined && value !== null)
      .map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
    return `${this.#url}${this.#url.includes("?") ? "&" : "?"}${query.join("&")}`;
  }

  #ended(attempt, code, reason) {
    if (attempt !== this.#attempt) return;
    this.#disconnected();
    const todo = advice(code, reason, { failures: this.#failures, refusals: this.#refusals }, this.#random);
    this.#failures += 1;
    if (code === 4401) this.#refusals += 1;
    const closed = Object.freeze({ code, reason });
    if (todo.action === "stop" || todo.action === "signIn") {
      this.#giveUp(todo.action === "stop" ? "stopped" : "signIn", closed);
    } else if (this.#hidden) {
      this.#publish({ closed });
    } else if (todo.action === "renew") {
      this.#publish({ closed });
      this.#connect("refused");
    } else {
      this.#set("retry", () => this.#connect("connect"), todo.delayMs);
      this.#publish({ closed, retryAt: this.#timers.now() + todo.delayMs });
    }
  }

  #disconnected() {
    this.#connection = this.#welcome = null;
    this.#following.disconnected();
    this.#acks.stop();
    this.#clear("steady");
  }

  #giveUp(phase, closed) {
    this.#phase = phase;
    this.#attempt += 1;
    this.#clear("retry");
    this.#stopSurroundings();
    this.#stopSurroundings = () => {};
    const connection = this.#connection;
    this.#disconnected();
    connection?.close(1000);
    this.#publish({ closed: closed ?? this.#snapshot.closed, retryAt: null });
    for (const waiting of [...this.#waiting]) waiting.fail();
  }

  // A link that does not answer in three seconds is dead: the next one starts at once.
  #probe(method) {
    const connection = this.#connection;
    connection.call(method, {}, WAKE_TIMEOUT_MS).catch((error) => {
      if (error.name === "CallTimedOut") connection.close(4408, "no answer after a wake");
    });
  }

  #toBackground() {
    if (!this.#welcome) return; // what is still connecting is told once it is welcomed
    const { keepMs } = this.#options;
    this.#connection.call("connection.background", keepMs === undefined ? {} : { keepMs }, CALL_TIMEOUT_MS).catch(() => {});
  }

  #connected(method, timeoutMs) {
    if (this.#phase !== "running") return Promise.reject(new NotConnected(method, this.#snapshot.status));
    return new Promise((resolve, reject) => {
      const finish = (settle) => {
        this.#timers.clearTimeout(timer);
        this.#waiting.delete(waiting);
        settle();
      };
      const waiting = {
        open: () => finish(resolve),
        fail: () => finish(() => reject(new NotConnected(method, this.#snapshot.status))),
      };
      const timer = this.#timers.setTimeout(waiting.fail, timeoutMs);
      this.#waiting.add(waiting);
    });
  }

  // --- what the server says ---

  #notified(method, params) {
    switch (method) {
      case "connection.welcome":
        this.#welcomed(params);
        break;
      case "feed.snapshot":
        this.#took(this.#following.takeSnapshot(params));
        break;
      case "feed.delta":
        this.#changed(params);
        break;
      case "feed.closed":
        if (this.#following.unwatch(params.feed)) this.#publish();
        break;
      case "server.status":
      case "connection.beat": {
        const degraded = params.degraded?.length ? params.degraded : null;
        if (JSON.stringify(degraded) !== JSON.stringify(this.#snapshot.degraded)) this.#publish({ degraded });
        break;
      }
      case "connection.expiring":
        this.#renew();
        break;
      case "server.draining":
        this.#publish({ draining: true });
        break;
    }
    this.#emit(method, params);
  }

  // What an answer means for the client itself, whoever asked.
  #answered(method, result) {
    if (method === "feed.get") this.#took(this.#following.takeSnapshot(result));
    if (method === "connection.background") {
      this.#connection.deadAfterMs = Infinity; // from now on the server is silent on purpose
      this.#following.loseSync();
    }
    if (method === "connection.foreground") this.#connection.deadAfterMs = this.#welcome.heartbeatMs + GRACE_MS;
  }

  #welcomed(welcome) {
    this.#refusals = 0;
    this.#welcome = Object.freeze({ heartbeatMs: DEFAULT_HEARTBEAT_MS, ...welcome });
    this.#following.welcomed(welcome.user);
    this.#connection.deadAfterMs = this.#welcome.heartbeatMs + GRACE_MS;
    this.#connection.maxMessageBytes = Math.min(this.#connection.maxMessageBytes, welcome.limits?.maxMessageBytes ?? Infinity);
    this.#acks.start(welcome.ackEveryMs);
    this.#set("steady", () => (this.#failures = 0), STEADY_MS);
    const watched = this.#following.watched;
    if (watched.length) this.#resubscribe(watched);
    if (this.#hidden) this.#toBackground();
    this.#publish({ draining: false, degraded: null });
    for (const waiting of [...this.#waiting]) waiting.open();
  }

  #changed(delta) {
    try {
      this.#took(this.#following.takeDelta(delta));
    } catch (error) {
      if (!(error instanceof DeltaError)) throw error;
      this.#publish();
      this.#resync(delta.feed);
    }
  }

  // The answer is taken like a snapshot, in the order of the wire.
  async #resync(feed) {
    const connection = this.#connection;
    try {
      await connection.call("feed.get", feed === this.#welcome.user ? {} : { feed }, CALL_TIMEOUT_MS);
    } catch {
      // without a base the feed would stand still for good: begin anew
      if (this.#connection !== connection || !connection) return;
      this.#following.forget(feed);
      connection.close(1006, "the feed could not be read");
    }
  }

  #took(state) {
    if (!state) return;
    this.#acks.arrived(state.feed, state.cursor);
    this.#publish();
  }

  async #renew() {
    const connection = this.#connection;
    if (typeof this.#options.token !== "function") return;
    try {
      const token = await this.#options.token({ reason: "expiring" });
      if (token) await connection.call("connection.renew", { token }, CALL_TIMEOUT_MS);
    } catch {
      // the connection ends with 4401 at the token's end, and the next one asks for a new token
    }
  }

  // --- watched feeds ---

  async #resubscribe(feeds) {
    const connection = this.#connection;
    try {
      await this.#subscribeTo(feeds);
    } catch (error) {
      // an answer that never came leaves nobody knowing what is followed: begin anew
      if (error.name === "CallTimedOut") connection.close(1006, "no answer to feed.subscribe");
    }
  }

  /** Subscribes, again and again where the refusal is temporary. What was refused for good, by feed. */
  async #subscribeTo(feeds) {
    const connection = this.#connection;
    const refused = new Map();
    let waiting = feeds;
    while (waiting.length) {
      const batch = waiting.slice(0, FEEDS_AT_ONCE).filter((feed) => this.#following.watches(feed));
      waiting = waiting.slice(FEEDS_AT_ONCE);
      const errors = batch.length ? await this.#subscribe(connection, batch) : new Map();
      let pauseMs = 0;
      for (const [feed, error] of errors) {
        if (error.retryInMs === null) {
          refused.set(feed, error);
          this.#following.unwatch(feed);
        } else {
          waiting.push(feed);
          pauseMs = Math.max(pauseMs, error.retryInMs);
        }
      }
      if (pauseMs) await new Promise((resolve) => this.#timers.setTimeout(resolve, pauseMs));
    }
    if (refused.size) this.#publish();
    for (const [feed, error] of refused) this.#emit("feed.closed", { feed, reason: "refused", error });
    return refused;
  }

  // The RpcError of each feed that was not subscribed to.
  async #subscribe(connection, feeds) {
    try {
      const asked = feeds.map((feed) => this.#following.asked(feed));
      const { feeds: answers } = await connection.call("feed.subscribe", { feeds: asked }, CALL_TIMEOUT_MS);
      return new Map(answers.filter(({ error }) => error).map(({ feed, error }) => [feed, new RpcError(error)]));
    } catch (error) {
      if (error instanceof RpcError) return new Map(feeds.map((feed) => [feed, error]));
      throw error;
    }
  }

  // --- the state on show ---

  #status() {
    if (this.#phase !== "running") return this.#phase;
    if (this.#hidden) return "paused";
    if (this.#timersSet.retry !== null) return "waiting";
    return this.#welcome && this.#following.synced ? "live" : "connecting";
  }

  #publish(changes = {}) {
    const now = this.#timers.now();
    const { expiresAt, ...shown } = this.#following.show(now);
    this.#snapshot = Object.freeze({ ...this.#snapshot, ...changes, ...shown, status: this.#status(), welcome: this.#welcome });
    this.#clear("expiry");
    if (expiresAt !== null) this.#set("expiry", () => this.#publish(), Math.min(expiresAt - now, MOST_TIMEOUT_MS));
    for (const listener of [...this.#listeners]) guarded(listener);
  }

  #emit(method, params) {
    for (const fn of this.#handlers.get(method) ?? []) guarded(fn, params);
    for (const fn of this.#handlers.get("*") ?? []) guarded(fn, method, params);
  }

  #set(which, fn, delayMs) {
    this.#clear(which);
    const run = () => {
      this.#timersSet[which] = null;
      fn();
    };
    this.#timersSet[which] = this.#timers.setTimeout(run, delayMs);
  }

  #clear(which) {
    if (this.#timersSet[which] !== null) this.#timers.clearTimeout(this.#timersSet[which]);
    this.#timersSet[which] = null;
  }
}

// A listener's mistake is its own: it is reported, and the feed goes on.
function guarded(fn, ...args) {
  try {
    fn(...args);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

// Taken apart by hand: React Native's URL has no setters.
function feedUrl(text) {
  const parts = /^(https?|wss?):\/\/([^/?#]+)([^?#]*)(\?[^#]*)?/i.exec(text);
  if (!parts) throw new TypeError(`not an address of http, https, ws or wss: ${text}`);
  const [, scheme, host, path, query = ""] = parts;
  return `${scheme.toLowerCase().replace("http", "ws")}://${host}${path === "" || path === "/" ? "/v1/feed" : path}${query}`;
}
