// What one opens to debug a client: the connection, its figures, the last frames, and any method by hand.

import { clear, h, reconcile } from "../dom.js";
import { bytes, moment } from "../format.js";

const EVERY_MS = 1_000;
const PING_EVERY = 5;

export function inspectorView(session) {
  const { client } = session;
  const facts = h("dl", { class: "pairs" });
  const paused = h("input", { type: "checkbox", id: "pause-frames" });
  const frames = h("ol", { class: "frames", "aria-label": "Frames, newest first" });
  const element = h(
    "section",
    { class: "inspector", "aria-label": "Inspector" },
    h("div", { class: "card" }, h("h2", {}, "Connection"), facts),
    methodBox(client),
    h("div", { class: "card wide" }, h("header", {}, h("h2", {}, "Frames"), h("label", { for: "pause-frames" }, paused, " hold still")), frames),
  );
  let roundTrip = null;
  let ticks = 0;

  function drawFacts() {
    const { status, feed, welcome, closed, retryAt } = client.getSnapshot();
    const { traffic } = session;
    const age = feed ? `${Math.max(0, Math.round((Date.now() - Date.parse(feed.at)) / 1000))} s` : "–";
    const rows = {
      State: status + (retryAt ? `, again in ${Math.max(0, Math.round((retryAt - Date.now()) / 1000))} s` : ""),
      User: welcome?.user ?? feed?.feed ?? "–",
      Replica: welcome?.replica ?? "–",
      Connection: welcome?.connection ?? "–",
      "Token ends": welcome ? moment(welcome.expiresAt) : "–",
      Cursor: feed?.cursor ?? "–",
      "Age of the state": age,
      Items: String(feed?.items.length ?? 0),
      "Round trip": roundTrip === null ? "–" : `${roundTrip.toFixed(1)} ms`,
      In: `${bytes(traffic.in)}, ${traffic.framesIn} frames`,
      Out: `${bytes(traffic.out)}, ${traffic.framesOut} frames`,
      "Last close": closed ? `${closed.code} ${closed.reason}` : "–",
    };
    reconcile(facts, Object.entries(rows).map(([name, value]) => pairOf(name, value)), (pair) => pair.name, ({ name, value }) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  }

  const pairs = new Map();
  // the same pair object while the value is the same: its element is left alone
  function pairOf(name, value) {
    const old = pairs.get(name);
    if (old?.value === value) return old;
    const pair = { name, value };
    pairs.set(name, pair);
    return pair;
  }

  async function ping() {
    const from = performance.now();
    try {
      await client.call("connection.ping", {}, { timeoutMs: 3_000 });
      roundTrip = performance.now() - from;
    } catch {
      roundTrip = null;
    }
  }

  function tick() {
    if (ticks % PING_EVERY === 0) ping();
    ticks += 1;
    drawFacts();
  }

  let drawing = false;
  function drawFrames() {
    if (paused.checked || drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      reconcile(frames, [...session.frames].reverse(), (frame) => frame, frameRow);
    });
  }

  session.frameListeners.add(drawFrames);
  const timer = setInterval(tick, EVERY_MS);
  tick();
  drawFrames();
  return {
    element,
    close() {
      clearInterval(timer);
      session.frameListeners.delete(drawFrames);
    },
  };
}

function frameRow({ direction, text, size, at }) {
  const message = JSON.parse(text);
  const what = message.method ?? (message.error ? `error ${message.error.code}` : `result ${message.id}`);
  const whole = h("pre", { tabindex: "0" });
  const fill = () => (whole.textContent ||= JSON.stringify(message, null, 2));
  return h(
    "li",
    { class: direction },
    h("details", { on: { toggle: fill } }, h("summary", {}, h("span", { class: "arrow" }, h("span", { class: "unseen" }, direction === "in" ? "received" : "sent"), h("span", { "aria-hidden": "true" }, direction === "in" ? "↓" : "↑")), ` ${what} `, h("span", { class: "quiet-text" }, `${bytes(size)} · ${at.toLocaleTimeString()}.${String(at.getMilliseconds()).padStart(3, "0")}`)), whole),
  );
}

function methodBox(client) {
  const methods = h("select", { id: "method", on: { change: showSchema } }, h("option", {}, "connection.info"));
  const params = h("textarea", { id: "params", rows: 5, class: "code", spellcheck: "false", value: "{}" });
  const schema = h("pre", { class: "schema", tabindex: "0" });
  const answer = h("pre", { class: "answer", role: "status", tabindex: "0" });
  loadMethods();

  async function loadMethods() {
    try {
      const { channels, components } = await (await fetch("/asyncapi.json")).json();
      const names = new Set();
      for (const message of Object.values(components?.messages ?? {})) if (message["x-method"]) names.add(message["x-method"]);
      for (const channel of Object.values(channels ?? {})) for (const message of Object.values(channel.messages ?? {})) if (message["x-method"]) names.add(message["x-method"]);
      if (names.size) clear(methods).append(...[...names].sort().map((name) => h("option", {}, name)));
      methods.value = names.has("connection.info") ? "connection.info" : methods.options[0].value;
    } catch {
      // without the list the one method stays; the schema box says what is wrong
    }
    showSchema();
  }

  async function showSchema() {
    try {
      const reply = await fetch(`/schemas/${encodeURIComponent(methods.value)}.json`);
      schema.textContent = reply.ok ? JSON.stringify(await reply.json(), null, 2) : `no schema (${reply.status})`;
    } catch (error) {
      schema.textContent = `no schema: ${error.message}`;
    }
  }

  async function send(event) {
    event.preventDefault();
    answer.className = "answer";
    try {
      answer.textContent = JSON.stringify(await client.call(methods.value, JSON.parse(params.value || "{}")), null, 2);
    } catch (error) {
      answer.className = "answer problem";
      answer.textContent = error.data ? JSON.stringify({ code: error.code, message: error.message, data: error.data }, null, 2) : error.message;
    }
  }

  return h(
    "form",
    { class: "card", on: { submit: send } },
    h("h2", {}, "Send"),
    h("label", { for: "method" }, "Method"),
    methods,
    h("label", { for: "params" }, "Params"),
    params,
    h("p", { class: "buttons" }, h("button", { class: "primary", type: "submit" }, "Send")),
    answer,
    h("details", {}, h("summary", {}, "Schema"), schema),
  );
}
