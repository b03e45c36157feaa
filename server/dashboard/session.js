// Who is signed in, and the one client the whole page shares.
// The token comes from the field or the URL's fragment, lives in session storage, and is never in a URL we keep.

import { FreyaClient } from "./client/index.js";

const KEY = "freya-push-token";
const MOST_FRAMES = 200;
const MOST_KEPT_BYTES = 4_000_000;
const SECRETS = new Set(["token", "credentials", "settings"]);

export class Session {
  client = null;
  claims = {};
  traffic = { in: 0, out: 0, framesIn: 0, framesOut: 0 };
  frames = [];
  frameListeners = new Set();
  #kept = 0;

  /** The token of the fragment (removed from the address at once), or the kept one, or null. */
  static token() {
    const fragment = new URLSearchParams(location.hash.slice(1));
    const given = fragment.get("token");
    if (given) {
      history.replaceState(null, "", location.pathname + location.search);
      sessionStorage.setItem(KEY, given);
    }
    return given ?? sessionStorage.getItem(KEY);
  }

  signIn(token) {
    this.signOut();
    sessionStorage.setItem(KEY, token);
    this.claims = claimsOf(token);
    this.client = new FreyaClient(location.origin, {
      token,
      debug: true,
      context: true,
      onTraffic: (direction, text) => this.#count(direction, text),
    });
    this.client.start();
    return this.client;
  }

  signOut() {
    sessionStorage.removeItem(KEY);
    this.traffic = { in: 0, out: 0, framesIn: 0, framesOut: 0 };
    this.client?.stop();
    this.client = null;
    this.frames.length = this.#kept = 0;
  }

  may(scope) {
    return (this.claims.scope ?? "").split(" ").includes(scope);
  }

  #count(direction, text) {
    const incoming = direction === "in";
    const size = new TextEncoder().encode(text).length;
    this.traffic[direction] += size;
    this.traffic[incoming ? "framesIn" : "framesOut"] += 1;
    this.frames.push({ direction, text: incoming ? text : withoutSecrets(text), size, at: new Date() });
    this.#kept += size;
    while (this.frames.length > MOST_FRAMES || (this.#kept > MOST_KEPT_BYTES && this.frames.length > 1)) this.#kept -= this.frames.shift().size;
    this.frameListeners.forEach((fn) => fn());
  }
}

// What is typed into secret fields is sent, and not shown again.
function withoutSecrets(text) {
  return JSON.stringify(JSON.parse(text), (name, value) => (SECRETS.has(name) ? "hidden" : value));
}

// Read for showing what the token may do; the server alone decides.
function claimsOf(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}
