// The world around a client in tests: sockets that say what the test says, and time that stands still until moved.

import { FreyaClient } from "../../protocol/js/index.js";

/** Timers whose hands the test turns; `now` begins at a round moment. */
export class VirtualTimers {
  #now = Date.parse("2026-03-01T12:00:00Z");
  #timers = new Map();
  #next = 1;

  now = () => this.#now;
  setTimeout = (fn, ms) => {
    this.#timers.set(this.#next, { at: this.#now + ms, fn });
    return this.#next++;
  };
  clearTimeout = (id) => this.#timers.delete(id);

  get count() {
    return this.#timers.size;
  }

  /** Moves time on, and runs what is due in order, with everything that follows from it. */
  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].fn();
      await settled();
    }
    this.#now = end;
    await settled();
  }
}

/** Everything that promises had to do has been done. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A promise that the test looks at later: until then its failure is nobody's mistake. */
export function asked(promise) {
  promise.catch(() => {});
  return promise;
}

/** A WebSocket class whose instances wait for the test; `sockets` has them in the order of their making. */
export function scriptedSockets() {
  const sockets = [];
  class ScriptedSocket {
    sent = [];
    closedWith = null;
    isOpen = false;

    constructor(url, protocols, options) {
      Object.assign(this, { url: new URL(url), protocols, options });
      sockets.push(this);
    }
    send(text) {
      if (!this.isOpen) throw new Error("still connecting");
      this.sent.push(JSON.parse(text));
    }
    close(code, reason) {
      this.closedWith = { code, reason };
    }

    // what the test does
    get params() {
      return Object.fromEntries(this.url.searchParams);
    }
    last(method) {
      return this.sent.findLast((message) => message.method === method);
    }
    async open() {
      this.isOpen = true;
      this.onopen?.({});
      await settled();
    }
    async say(method, params) {
      await this.text(JSON.stringify({ jsonrpc: "2.0", method, params }));
    }
    async text(data) {
      this.onmessage?.({ data });
      await settled();
    }
    async answer(method, result) {
      const { id } = this.last(method);
      await this.text(JSON.stringify({ jsonrpc: "2.0", id, result }));
    }
    async refuse(method, error) {
      const { id } = this.last(method);
      await this.text(JSON.stringify({ jsonrpc: "2.0", id, error }));
    }
    async end(code, reason = "") {
      this.onclose?.({ code, reason });
      await settled();
    }
    async fail() {
      this.onerror?.({});
      await settled();
    }
    async welcome(more = {}) {
      await this.open();
      await this.say("connection.welcome", { ...WELCOME, ...more });
    }
    async live(cursor = "c1", items = []) {
      await this.welcome();
      await this.say("feed.snapshot", snapshot("alice", cursor, items));
    }
  }
  return { ScriptedSocket, sockets };
}

export const WELCOME = {
  server: "freya", protocol: "1", schemaDigest: "d", replica: "r1", connection: "k1", user: "alice",
  now: "2026-03-01T12:00:00Z", expiresAt: "2026-03-01T13:00:00Z", heartbeatMs: 25_000, limits: {},
};

export function item(id, more = {}) {
  return { id, sourceId: id.split("/")[0], type: "note", timestamp: "2026-03-01T12:00:00Z", data: {}, ...more };
}

export function snapshot(feed, cursor, items = []) {
  return { feed, cursor, at: "2026-03-01T12:00:00Z", items, groups: [], errors: [], pending: [] };
}

export function delta(feed, base, cursor, changes = {}) {
  return { feed, base, cursor, at: "2026-03-01T12:00:01Z", ...changes };
}

/** A started client in such a world: `{client, sockets, socket(), timers, outside, states}`. */
export function begin(options = {}) {
  const timers = new VirtualTimers();
  const { ScriptedSocket, sockets } = scriptedSockets();
  const outside = {};
  const client = new FreyaClient("https://push.example/", {
    WebSocket: ScriptedSocket,
    token: "t0ken",
    timers,
    random: () => 0.5,
    surroundings: (react) => {
      Object.assign(outside, react);
      return () => (outside.stopped = true);
    },
    ...options,
  }).start();
  return { client, timers, sockets, outside, socket: () => sockets.at(-1), status: () => client.getSnapshot().status };
}

/** The same, connected and with a feed. */
export async function beginLive(options = {}, items = [item("a/1")]) {
  const world = begin(options);
  await settled();
  await world.socket().live("c1", items);
  return world;
}
