// The client: one live state that survives lost links, deploys and sleeping phones.
// Decisions are in feed.js and reconnect.js; one socket's life is in connection.js; here they are joined.

import { Connection } from "./connection.js";
import { NotConnected } from "./errors.js";
import { applyDelta, DeltaError, fromSnapshot, nextExpiry, visibleItems } from "./feed.js";
import { advice, STEADY_MS } from "./reconnect.js";
import { browserSurroundings } from "./surroundings.js";

const SUBPROTOCOL = "freya.v1";
const CALL_TIMEOUT_MS = 15_000;
const WAKE_TIMEOUT_MS = 3_000;
const GRACE_MS = 10_000;
const DEFAULT_HEARTBEAT_MS = 25_000;
const MOST_TIMEOUT_MS = 2 ** 31 - 1;
const NO_ITEMS = Object.freeze([]);

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
  #connection = null;
  #attempt = 0; // raised by every connect and stop: what an older attempt still does is ignored
  #failures = 0;
  #refusals = 0;
  #running = false;
  #hidden = false;
  #retryTimer = null;
  #steadyTimer = null;
  #expiryTimer = null;
  #lastAckAt = -Infinity;
  #resyncing = new Set();
  #watched = new Map(); // feed -> {minIntervalMs}
  #states = new Map(); // feed -> state; the own feed under the user's id
  #listeners = new Set();
  #handlers = new Map();
  #stopSurroundings = () => {};
  #snapshot = Object.freeze({
    status: "idle", feed: null, items: NO_ITEMS, feeds: Object.freeze({}), welcome: null,
    degraded: null, draining: false, retryAt: null, closed: null,
  });

  /** @param {string} url `ws://host:port` or the page's own origin; the path defaults to /v1/feed */
  constructor(url, options = {}) {
    this.#options = { delta: true, own: true, settings: true, pauseWhenHidden: true, ...options };
    this.#url = feedUrl(url);
    this.#timers = options.timers ?? systemTimers;
    this.#random = options.random ?? Math.random;
  }

  // --- life ---

  /** Connects and stays connected until `stop`, a terminal close code, or a refused sign-in. */
  start() {
    if (this.#running) return this;
    this.#running = true;
    this.#failures = this.#refusals = 0;
    const react = { hidden: () => this.hide(), shown: () => this.show(), online: () => this.wake(), offline: () => {} };
    this.#stopSurroundings = (this.#options.surroundings ?? browserSurroundings)(react) ?? (() => {});
    if (!this.#hidden) this.#connect("connect");
    return this;
  }

  /** Ends the connection and keeps the last state on show. */
  stop() {
    this.#stopWith("stopped", null);
  }

  /** The page is hidden or the app went to the background: pushes stop, the socket may end. */
  hide() {
    if (this.#hidden || !this.#options.pauseWhenHidden) return;
    this.#hidden = true;
    this.#clearRetry();
    if (!this.#running) return;
    if (this.#connection) this.call("connection.background", this.#keep()).catch(() => {});
    else this.#publish({ status: "paused", retryAt: null });
  }

  /** Back on screen: one delta from what was last shown, over the same socket or a new one. */
  show() {
    if (!this.#hidden) return;
    this.#hidden = false;
    if (!this.#running) return;
    if (this.#connection) this.#probe("connection.foreground");
    else this.#connect("connect");
  }

  /** The network came back, or the machine woke: a dead link is found within three seconds. */
  wake() {
    if (!this.#running || this.#hidden) return;
    if (this.#connection && this.#snapshot.welcome) this.#probe("connection.ping");
    else if (this.#retryTimer !== null) this.#connect("connect");
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

  /** The result of one request. Never repeated by itself: see ConnectionLost. */
  call(method, params = {}, { timeoutMs = CALL_TIMEOUT_MS } = {}) {
    if (!this.#connection || !this.#snapshot.welcome) return Promise.reject(new NotConnected(this.#snapshot.status));
    return this.#connection.call(method, params, timeoutMs);
  }

  /** Follows another user's feed (scope feed:watch) in `getSnapshot().feeds`, also over reconnects. */
  async watch(feed, { minIntervalMs } = {}) {
    this.#watched.set(feed, { minIntervalMs });
    if (this.#snapshot.welcome && this.#connection) await this.#subscribeTo([feed]);
  }

  async unwatch(feed) {
    if (!this.#watched.delete(feed)) return;
    this.#states.delete(feed);
    this.#publish({});
    if (this.#snapshot.welcome && this.#connection) await this.call("feed.unsubscribe", { feeds: [feed] });
  }

  // --- connecting ---

  async #connect(reason) {
    this.#clearRetry();
    const attempt = ++this.#attempt;
    this.#publish({ status: "connecting", retryAt: null, welcome: null });
    let token;
    try {
      token = await this.#token(reason);
    } catch {
      if (attempt === this.#attempt) this.#ended(attempt, 1006, "no token could be had");
      return;
    }
    if (attempt !== this.#attempt || !this.#running) return;
    if (!token) {
      this.#stopWith("signIn", { code: 4401, reason: "no token" });
      return;
    }
    this.#open(attempt, token);
  }

  #open(attempt, token) {
    const WebSocketClass = this.#options.WebSocket ?? globalThis.WebSocket;
    const protocols = [SUBPROTOCOL, `bearer.${token}`];
    let socket;
    try {
      // React Native sends its own Origin; a third argument (headers) may be given for it
      socket = this.#options.socketOptions
        ? new WebSocketClass(this.#address(), protocols, this.#options.socketOptions)
        : new WebSocketClass(this.#address(), protocols);
    } catch (error) {
      this.#stopWith("stopped", { code: 0, reason: String(error?.message ?? error) });
      return;
    }
    const mine = (fn) => (...args) => attempt === this.#attempt && fn(...args);
    this.#connection = new Connection(
      socket,
      {
        onNotification: mine((method, params) => this.#notified(method, params)),
        onTraffic: this.#options.onTraffic,
        onEnd: (code, why) => this.#ended(attempt, code, why),
      },
      this.#timers,
      (this.#options.heartbeatMs ?? DEFAULT_HEARTBEAT_MS) + GRACE_MS,
    );
  }

  #token(reason) {
    const { token } = this.#options;
    return typeof token === "function" ? token({ reason }) : reason === "refused" ? null : token;
  }

  #address() {
    const url = new URL(this.#url);
    const set = (name, value) => value !== undefined && value !== null && url.searchParams.set(name, String(value));
    const { options, own } = { options: this.#options, own: this.#ownState() };
    url.searchParams.set("beat", "1");
    if (own && options.own) set("since", own.cursor);
    if (!options.own) set("own", 0);
    if (!options.delta) set("delta", 0);
    if (!options.settings) set("settings", 0);
    if (options.context) set("context", 1);
    if (options.debug) set("debug", 1);
    if (options.deflate === false) set("deflate", 0);
    set("minIntervalMs", options.minIntervalMs);
    set("heartbeatMs", options.heartbeatMs);
    set("client", options.client);
    return url.href;
  }

  #ended(attempt, code, reason) {
    if (attempt !== this.#attempt) return;
    this.#connection = null;
    this.#resyncing.clear();
    this.#clear("steady");
    if (!this.#running) return;
    const todo = advice(code, reason, { failures: this.#failures, refusals: this.#refusals }, this.#random);
    this.#failures += 1;
    this.#refusals = code === 4401 ? this.#refusals + 1 : this.#refusals;
    const closed = Object.freeze({ code, reason });
    if (todo.action === "stop" || todo.action === "signIn") {
      this.#stopWith(todo.action === "stop" ? "stopped" : "signIn", closed);
    } else if (this.#hidden) {
      this.#publish({ status: "paused", closed, welcome: null, retryAt: null });
    } else if (todo.action === "renew") {
      this.#publish({ closed });
      this.#connect("refused");
    } else {
      this.#publish({ status: "waiting", closed, welcome: null, retryAt: this.#timers.now() + todo.delayMs });
      this.#retryTimer = this.#timers.setTimeout(() => this.#connect("connect"), todo.delayMs);
    }
  }

  #stopWith(status, closed) {
    this.#running = false;
    this.#attempt += 1;
    this.#clearRetry();
    this.#clear("steady");
    this.#stopSurroundings();
    this.#stopSurroundings = () => {};
    const connection = this.#connection;
    this.#connection = null;
    connection?.close(1000);
    this.#publish({ status, closed, welcome: null, retryAt: null });
  }

  // A link that does not answer in three seconds after a wake is dead: the next one starts at once.
  #probe(method) {
    const connection = this.#connection;
    connection.call(method, {}, WAKE_TIMEOUT_MS).catch((error) => {
      if (error.name === "CallTimedOut" && connection === this.#connection) connection.close(4408, "no answer after a wake");
    });
  }

  // --- what the server says ---

  #notified(method, params) {
    switch (method) {
      case "connection.welcome":
        this.#welcomed(params);
        break;
      case "feed.snapshot":
        this.#resyncing.delete(params.feed);
        this.#take(fromSnapshot(params));
        break;
      case "feed.delta":
        this.#changed(params);
        break;
      case "feed.closed":
        this.#watched.delete(params.feed);
        this.#states.delete(params.feed);
        this.#publish({});
        break;
      case "connection.beat":
        if ((params.degraded ?? null) !== this.#snapshot.degraded) this.#publish({ degraded: params.degraded ?? null });
        break;
      case "connection.expiring":
        this.#renew();
        break;
      case "server.draining":
        this.#publish({ draining: true });
        break;
    }
    this.#handlers.get(method)?.forEach((fn) => fn(params));
    this.#handlers.get("*")?.forEach((fn) => fn(method, params));
  }

  #welcomed(welcome) {
    this.#refusals = 0;
    this.#connection.deadAfterMs = (welcome.heartbeatMs ?? DEFAULT_HEARTBEAT_MS) + GRACE_MS;
    this.#steadyTimer = this.#timers.setTimeout(() => (this.#failures = 0), STEADY_MS);
    const status = this.#options.own ? "connecting" : "live";
    this.#publish({ welcome: Object.freeze(welcome), status, draining: false, degraded: null, closed: null });
    const again = [...this.#watched.keys()];
    if (again.length) this.#subscribeTo(again).catch(() => {});
    if (this.#hidden) this.call("connection.background", this.#keep()).catch(() => {});
  }

  #changed(delta) {
    const { feed } = delta;
    if (this.#resyncing.has(feed)) return;
    const state = this.#states.get(feed);
    try {
      if (!state) throw new DeltaError("no state to change");
      this.#take(applyDelta(state, delta));
    } catch (error) {
      if (!(error instanceof DeltaError)) throw error;
      this.#resync(feed);
    }
  }

  async #resync(feed) {
    const connection = this.#connection;
    this.#resyncing.add(feed);
    try {
      const params = feed === this.#snapshot.welcome?.user ? {} : { feed };
      const whole = await connection.call("feed.get", params, CALL_TIMEOUT_MS);
      if (this.#connection !== connection || !this.#resyncing.delete(feed)) return;
      this.#take(fromSnapshot(whole));
    } catch {
      // without a base the feed would stand still for good: begin anew
      if (this.#connection === connection) {
        this.#states.delete(feed);
        connection.close(1006, "the feed could not be read");
      }
    }
  }

  #take(state) {
    this.#states.set(state.feed, state);
    this.#ack(state);
    const own = state.feed === this.#snapshot.welcome?.user;
    this.#publish(own && !this.#hidden ? { status: "live" } : {});
  }

  #ack({ feed, cursor }) {
    const every = this.#snapshot.welcome?.ackEveryMs;
    const now = this.#timers.now();
    if (!every || now - this.#lastAckAt < every) return;
    this.#lastAckAt = now;
    this.#connection?.notify("feed.ack", { feed, cursor });
  }

  async #renew() {
    const connection = this.#connection;
    if (typeof this.#options.token !== "function") return;
    try {
      const token = await this.#options.token({ reason: "expiring" });
      if (token && connection === this.#connection) await connection.call("connection.renew", { token }, CALL_TIMEOUT_MS);
    } catch {
      // the connection ends with 4401 at the token's end, and the next one asks for a new token
    }
  }

  async #subscribeTo(feeds) {
    const asked = feeds.map((feed) => {
      const { minIntervalMs } = this.#watched.get(feed) ?? {};
      return { feed, since: this.#states.get(feed)?.cursor, minIntervalMs };
    });
    const { feeds: answers } = await this.call("feed.subscribe", { feeds: asked });
    const refused = answers.filter((answer) => answer.error);
    for (const { feed } of refused) this.#watched.delete(feed);
    if (refused.length && feeds.length === 1) throw Object.assign(new Error(refused[0].error.message), refused[0].error);
  }

  // --- the state on show ---

  #ownState() {
    const user = this.#snapshot.welcome?.user ?? this.#snapshot.feed?.feed;
    return user === undefined ? null : (this.#states.get(user) ?? null);
  }

  #publish(changes) {
    const welcome = "welcome" in changes ? changes.welcome : this.#snapshot.welcome;
    const user = welcome?.user ?? this.#snapshot.feed?.feed;
    const feed = (user !== undefined && this.#options.own && this.#states.get(user)) || null;
    const feeds = Object.fromEntries([...this.#states].filter(([name]) => this.#watched.has(name)));
    const now = this.#timers.now();
    const items = feed ? visibleItems(feed.items, now) : NO_ITEMS;
    this.#snapshot = Object.freeze({ ...this.#snapshot, ...changes, feed, items, feeds: Object.freeze(feeds) });
    this.#armExpiry(feed, now);
    this.#listeners.forEach((listener) => listener());
  }

  #armExpiry(feed, now) {
    this.#clear("expiry");
    const next = feed && nextExpiry(feed.items, now);
    if (next) this.#expiryTimer = this.#timers.setTimeout(() => this.#publish({}), Math.min(next - now, MOST_TIMEOUT_MS));
  }

  #keep() {
    return this.#options.keepMs === undefined ? {} : { keepMs: this.#options.keepMs };
  }

  #clearRetry() {
    if (this.#retryTimer !== null) this.#timers.clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
  }

  #clear(which) {
    if (which === "steady" && this.#steadyTimer !== null) {
      this.#timers.clearTimeout(this.#steadyTimer);
      this.#steadyTimer = null;
    }
    if (which === "expiry" && this.#expiryTimer !== null) {
      this.#timers.clearTimeout(this.#expiryTimer);
      this.#expiryTimer = null;
    }
  }
}

function feedUrl(text) {
  const url = new URL(text, globalThis.location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.pathname === "/") url.pathname = "/v1/feed";
  url.hash = "";
  return url.href;
}
