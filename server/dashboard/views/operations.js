// Live figures of the server, for an `admin` token: numbers, plots that move, replicas, talkers, providers.

import { clear, h } from "../dom.js";
import { bytes, count, milliseconds } from "../format.js";
import { sparkline } from "../plot.js";

const EVERY_MS = 1_000;

const perSecond = (value) => `${count(value)}/s`;
const FIGURES = {
  connections: { label: "Connections", show: count },
  users: { label: "Users connected", show: count },
  sessions: { label: "Sessions", show: count },
  feeds: { label: "Feeds followed", show: count },
  updatesPerS: { label: "Updates", show: perSecond, help: "changes of feeds that somebody follows" },
  deliveriesPerS: { label: "Deliveries", show: perSecond, help: "frames with a change, over all sockets" },
  conflatedPerS: { label: "Conflated", show: perSecond, help: "revisions that went out inside a later one" },
  latencyP50Ms: { label: "Latency, median", show: milliseconds, help: "from a change to the writing of its frame" },
  latencyP99Ms: { label: "Latency, 99 %", show: milliseconds, help: "from a change to the writing of its frame" },
  messagesInPerS: { label: "Messages in", show: perSecond },
  bytesOutPerS: { label: "Out", show: (value) => `${bytes(Math.round(value))}/s` },
  memoryBytes: { label: "Memory", show: bytes },
  cpuPercent: { label: "CPU", show: (value) => `${count(Math.round(value))} %`, help: "of one core, summed over replicas" },
  loopLagP99Ms: { label: "Loop lag, 99 %", show: milliseconds, help: "how late this replica's event loop was in the last minute" },
  replicas: { label: "Replicas", show: count },
};
// Where there was nothing to measure, the figure is left out and its line rests.
const RESTING = new Set(["latencyP50Ms", "latencyP99Ms"]);

export function operationsView(session) {
  const { client } = session;
  const note = h("p", { class: "empty", role: "status" }, "Waiting for figures…");
  const state = h("div", { class: "card wide state", hidden: true });
  const figures = h("dl", { class: "stats" });
  const replicas = h("div", { class: "card wide", hidden: true });
  const talkers = h("div", { class: "card wide", hidden: true });
  const providers = h("div", { class: "card wide", hidden: true });
  const element = h("section", { class: "operations", "aria-label": "Operations" }, h("h2", { class: "unseen" }, "Operations"), note, state, figures, replicas, talkers, providers);
  const tiles = new Map();
  let connection = null;

  function update(params) {
    note.hidden = true;
    for (const [name, figure] of Object.entries(FIGURES)) {
      if (params[name] === undefined && !RESTING.has(name)) continue;
      if (!tiles.has(name)) {
        tiles.set(name, tile(name, figure));
        figures.append(tiles.get(name).element);
      }
      tiles.get(name).show(params[name]);
    }
    showState(params);
    show(replicas, "Replicas", (params.replicaList ?? []).map(replicaRow), params.replicas > 1);
    show(talkers, "Top talkers", (params.topTalkers ?? []).map(({ user, messagesPerS }) => ({ User: user, "Messages in": perSecond(messagesPerS) })), true);
  }

  function showState({ bus, degraded = [] }) {
    state.hidden = false;
    const kind = bus?.kind === "redis" ? "Redis" : "in memory: this server alone";
    clear(state).append(
      h("h2", {}, "State"),
      h("p", {}, badge(degraded.length ? "failing" : "active", degraded.length ? `without ${degraded.join(", ")}` : "all well")),
      bus ? h("p", {}, "Bus ", badge(bus.healthy ? "active" : "failing", bus.healthy ? "healthy" : "broken"), h("span", { class: "quiet-text" }, ` ${kind}${bus.breaks ? `, ${bus.breaks} breaks so far` : ""}`)) : "",
    );
  }

  async function connectionChanged() {
    const now = client.getSnapshot().welcome?.connection ?? null;
    if (now === connection) return;
    connection = now;
    if (!now) return;
    try {
      await client.call("stats.subscribe", { everyMs: EVERY_MS });
      const list = await client.call("provider.list");
      show(providers, "Providers", list.providers.map(providerRow), true);
    } catch (error) {
      note.hidden = false;
      note.textContent = `No figures: ${error.message}`;
    }
  }

  const stops = [client.on("stats.update", update), client.subscribe(connectionChanged)];
  connectionChanged();
  return {
    element,
    close() {
      stops.forEach((stop) => stop());
      if (client.getSnapshot().welcome) client.call("stats.unsubscribe").catch(() => {});
    },
  };
}

const badge = (kind, text) => h("span", { class: `badge ${kind}` }, text);

function replicaRow(one) {
  return {
    Replica: one.replica,
    Connections: count(one.connections ?? 0),
    Sessions: count(one.sessions ?? 0),
    Updates: perSecond(one.updatesPerS ?? 0),
    Deliveries: perSecond(one.deliveriesPerS ?? 0),
    "Latency, 99 %": one.latencyP99Ms === undefined ? "–" : milliseconds(one.latencyP99Ms),
    Memory: one.memoryBytes ? bytes(one.memoryBytes) : "–",
    CPU: `${count(Math.round(one.cpuPercent ?? 0))} %`,
  };
}

const SETTINGS = { none: "none needed or none given", environment: "from the environment", stored: "stored" };

function providerRow(one) {
  return {
    Source: one.name,
    Id: one.sourceId,
    Settings: `${SETTINGS[one.settings] ?? one.settings}${one.version ? `, version ${one.version}` : ""}`,
    Trouble: one.problem ?? "–",
  };
}

function tile(name, { label, show, help }) {
  const value = h("span", { class: "value" });
  const plot = sparkline(label);
  const element = h("div", { class: "card stat", title: help ?? null, data: { figure: name } }, h("dt", {}, label), h("dd", {}, value, plot.element));
  return {
    element,
    show(next) {
      value.textContent = next === undefined ? "–" : show(next);
      plot.push(next ?? 0);
    },
  };
}

// Every row has the same columns; drawn anew each time, it is small.
function show(place, caption, rows, wanted) {
  place.hidden = !wanted || !rows.length;
  if (place.hidden) return;
  const columns = Object.keys(rows[0]);
  clear(place).append(
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((name) => h("td", {}, row[name]))))),
    ),
  );
}
