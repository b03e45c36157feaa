// The feeds that a client follows, its own and those it watches: what is known of each, and what is to be shown.
// No socket and no timer: it is told what came and what time it is.

import { applyDelta, DeltaError, fromSnapshot, nextExpiry, visibleItems } from "./feed.js";

const NO_ITEMS = Object.freeze([]);

export class Following {
  #followsOwn;
  #user = null;
  #watched = new Map(); // feed -> {minIntervalMs}
  #states = new Map(); // feed -> the last state
  #broken = new Set(); // feeds whose deltas are ignored until a whole state has come
  #shown = new Map(); // feed -> {state, items, view}: the same object while nothing to be seen has changed
  #feeds = Object.freeze({});
  #synced = false;

  constructor(followsOwn) {
    this.#followsOwn = followsOwn;
  }

  get user() {
    return this.#user;
  }

  /** Whether the own feed follows the server's over the present connection. */
  get synced() {
    return this.#synced || (!this.#followsOwn && this.#user !== null);
  }

  get watched() {
    return [...this.#watched.keys()];
  }

  watches(feed) {
    return this.#watched.has(feed);
  }

  /** The server has said whose feed is the own one. Another user's than before: what was known is dropped. */
  welcomed(user) {
    if (this.#user !== null && this.#user !== user) this.#states.delete(this.#user);
    this.#user = user;
  }

  /** What is known may be old from now on: the link is gone, or pushes have stopped. */
  loseSync() {
    this.#synced = false;
  }

  disconnected() {
    this.#broken.clear();
    this.loseSync();
  }

  watch(feed, minIntervalMs) {
    this.#watched.set(feed, { minIntervalMs });
  }

  /** Whether it was watched. */
  unwatch(feed) {
    if (!this.#watched.delete(feed)) return false;
    if (!this.#isOwn(feed)) this.#states.delete(feed);
    this.#shown.delete(feed);
    this.#broken.delete(feed);
    return true;
  }

  /** The own feed's last cursor, to resume with. */
  get ownCursor() {
    return this.#followsOwn ? this.#states.get(this.#user)?.cursor : undefined;
  }

  /** A watched feed as `feed.subscribe` names it; members that are undefined are not sent. */
  asked(feed) {
    return { feed, since: this.#states.get(feed)?.cursor, minIntervalMs: this.#watched.get(feed)?.minIntervalMs };
  }

  /** A whole feed: the new state, or null where nobody follows it. Throws DeltaError for what is none. */
  takeSnapshot(params) {
    if (!this.#follows(params.feed)) return null;
    const state = fromSnapshot(params);
    this.#broken.delete(state.feed);
    return this.#take(state);
  }

  /** A change: the new state, or null where it is of no use now. Throws DeltaError where the feed must be read anew. */
  takeDelta(delta) {
    if (!this.#follows(delta.feed) || this.#broken.has(delta.feed)) return null;
    const state = this.#states.get(delta.feed);
    try {
      if (!state) throw new DeltaError("no state to change");
      return this.#take(applyDelta(state, delta));
    } catch (error) {
      if (!(error instanceof DeltaError)) throw error;
      this.#broken.add(delta.feed);
      if (this.#isOwn(delta.feed)) this.#synced = false;
      throw error;
    }
  }

  /** The next connection is to begin with a whole state. */
  forget(feed) {
    this.#states.delete(feed);
  }

  /** What is on show at `now`: `{feed, items, feeds, expiresAt}`; `expiresAt`: when time alone changes it, or null. */
  show(now) {
    const own = (this.#followsOwn && this.#states.get(this.#user)) || null;
    const watched = this.watched.filter((feed) => this.#states.has(feed));
    const feeds = Object.fromEntries(watched.map((feed) => [feed, this.#view(feed, now).view]));
    if (!sameMembers(feeds, this.#feeds)) this.#feeds = Object.freeze(feeds);
    const ends = [...(own ? [own] : []), ...watched.map((feed) => this.#states.get(feed))].map((state) => nextExpiry(state.items, now));
    const soonest = Math.min(...ends.filter((end) => end !== null));
    return {
      feed: own,
      items: own ? this.#view(own.feed, now).items : NO_ITEMS,
      feeds: this.#feeds,
      expiresAt: Number.isFinite(soonest) ? soonest : null,
    };
  }

  #view(feed, now) {
    const state = this.#states.get(feed);
    const items = visibleItems(state.items, now);
    const before = this.#shown.get(feed);
    if (before?.state === state && before.items.length === items.length) return before;
    const view = items === state.items ? state : Object.freeze({ ...state, items: Object.freeze(items) });
    const shown = { state, items: view.items, view };
    this.#shown.set(feed, shown);
    return shown;
  }

  #take(state) {
    this.#states.set(state.feed, state);
    if (this.#isOwn(state.feed)) this.#synced = true;
    return state;
  }

  #isOwn(feed) {
    return this.#followsOwn && feed === this.#user;
  }

  #follows(feed) {
    return this.#isOwn(feed) || this.#watched.has(feed);
  }
}

function sameMembers(one, other) {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name]);
}
