// Tells the server what has arrived, at most so often: the newest cursor of each feed, never one twice.

export class Acks {
  #timers;
  #send;
  #everyMs = null;
  #timer = null;
  #news = new Map(); // feed -> cursor

  /** @param send `(feed, cursor)` */
  constructor(timers, send) {
    this.#timers = timers;
    this.#send = send;
  }

  /** From now on every `everyMs`; undefined: the server does not want to know. */
  start(everyMs) {
    this.stop();
    this.#everyMs = everyMs ?? null;
  }

  stop() {
    if (this.#timer !== null) this.#timers.clearTimeout(this.#timer);
    this.#timer = this.#everyMs = null;
    this.#news.clear();
  }

  arrived(feed, cursor) {
    if (this.#everyMs === null) return;
    this.#news.set(feed, cursor);
    if (this.#timer === null) this.#flush();
  }

  #flush() {
    this.#timer = null;
    if (!this.#news.size) return;
    for (const [feed, cursor] of this.#news) this.#send(feed, cursor);
    this.#news.clear();
    this.#timer = this.#timers.setTimeout(() => this.#flush(), this.#everyMs);
  }
}
