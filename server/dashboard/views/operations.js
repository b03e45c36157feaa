// Live figures of the server, for an `admin` token: numbers, plots that move, talkers, providers.

import { clear, h } from "../dom.js";
import { bytes, count, humanName } from "../format.js";
import { sparkline } from "../plot.js";

const EVERY_MS = 1_000;
const SIZES = /bytes|rss|memory/i;

export function operationsView(session) {
  const { client } = session;
  const figures = h("dl", { class: "stats" });
  const lists = h("div", { class: "stat-lists" });
  const providers = h("div", { class: "card wide" }, h("h2", {}, "Providers"));
  const note = h("p", { class: "empty" }, "Waiting for figures…");
  const element = h("section", { class: "operations", "aria-label": "Operations" }, note, figures, lists, providers);
  const tiles = new Map();
  let connection = null;

  function update(params) {
    note.hidden = true;
    for (const [name, value] of flatFigures(params)) {
      if (!tiles.has(name)) {
        tiles.set(name, statTile(name));
        figures.append(tiles.get(name).element);
      }
      tiles.get(name).show(value);
    }
    clear(lists).append(...Object.entries(params).filter(([, value]) => Array.isArray(value) && value.length).map(([name, rows]) => table(humanName(name), rows)));
  }

  async function connectionChanged() {
    const now = client.getSnapshot().welcome?.connection ?? null;
    if (now === connection) return;
    connection = now;
    if (!now) return;
    try {
      await client.call("stats.subscribe", { everyMs: EVERY_MS });
      const states = await client.call("provider.list");
      providers.replaceChildren(h("h2", {}, "Providers"), table("Providers", Object.values(states)[0] ?? [], true));
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
      client.call("stats.unsubscribe").catch(() => {});
    },
  };
}

// {connections: 3, bus: {healthy: true}} as [["connections", 3], ["bus healthy", true]]
function flatFigures(value, prefix = "") {
  return Object.entries(value).flatMap(([name, one]) => {
    const label = prefix ? `${prefix}.${name}` : name;
    if (one !== null && typeof one === "object") return Array.isArray(one) ? [] : flatFigures(one, label);
    return [[label, one]];
  });
}

function statTile(name) {
  const value = h("dd", {});
  const plot = sparkline(humanName(name));
  const element = h("div", { class: "card stat" }, h("dt", {}, humanName(name)), value);
  return {
    element,
    show(next) {
      if (typeof next !== "number") {
        value.textContent = String(next ?? "–");
        return;
      }
      value.textContent = SIZES.test(name) ? bytes(next) : count(next);
      if (!plot.element.parentNode) element.append(plot.element);
      plot.push(next);
    },
  };
}

function table(caption, rows, hideCaption = false) {
  const objects = rows.map((row) => (typeof row === "object" && row !== null ? row : { value: row }));
  const columns = [...new Set(objects.flatMap(Object.keys))];
  return h(
    "div",
    { class: hideCaption ? "" : "card wide" },
    h(
      "table",
      {},
      h("caption", { class: hideCaption ? "unseen" : "" }, caption),
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, humanName(name))))),
      h("tbody", {}, objects.map((row) => h("tr", {}, columns.map((name) => h("td", {}, cell(name, row[name])))))),
    ),
  );
}

function cell(name, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return SIZES.test(name) ? bytes(value) : count(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
