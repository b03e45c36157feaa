// Several users' feeds side by side, for a token with feed:watch.

import { h, reconcile, toast } from "../dom.js";
import { card } from "./cards.js";
import { glow } from "./feed.js";

const KEY = "freya-push-watched";

export function watchView(session) {
  const { client } = session;
  const columns = h("div", { class: "columns" });
  const field = h("input", { id: "watch-user", autocomplete: "off", spellcheck: "false", required: true });
  const form = h(
    "form",
    { class: "watch-form", on: { submit: (event) => (event.preventDefault(), add(field.value.trim()), (field.value = "")) } },
    h("label", { for: "watch-user" }, "User"),
    field,
    h("button", { class: "primary", type: "submit" }, "Watch"),
  );
  const empty = h("p", { class: "empty" }, "Name a user to follow their feed.");
  const element = h("section", { "aria-label": "Watch" }, form, empty, columns);
  const watched = new Set(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
  const entries = new Map();

  async function add(user) {
    if (!user || entries.get(user)?.state) return;
    watched.add(user);
    keep();
    render();
    try {
      await client.watch(user);
    } catch (error) {
      drop(user);
      toast(`${user} can't be watched: ${error.message}.`, "error");
    }
  }

  function drop(user) {
    watched.delete(user);
    entries.delete(user);
    keep();
    render();
    client.unwatch(user).catch(() => {});
  }

  const keep = () => sessionStorage.setItem(KEY, JSON.stringify([...watched]));

  function render() {
    const { feeds } = client.getSnapshot();
    empty.hidden = watched.size > 0;
    const shown = [...watched].map((user) => {
      const old = entries.get(user);
      const entry = old && old.state === feeds[user] ? old : { user, state: feeds[user], isFirst: !old?.state, list: old?.list ?? h("ol", { class: "cards" }), note: old?.note ?? h("p", { class: "empty" }) };
      entries.set(user, entry);
      return entry;
    });
    reconcile(columns, shown, (entry) => entry.user, column);
  }

  function column(entry, before) {
    const { changed, born } = reconcile(entry.list, entry.state?.items ?? [], (item) => item.id, (item) => h("li", {}, card(item)));
    if (!entry.isFirst) [...changed, ...born].forEach(glow);
    entry.note.hidden = (entry.state?.items.length ?? 0) > 0;
    entry.note.textContent = entry.state ? "Nothing in this feed right now." : "Waiting for the feed…";
    if (before) return before;
    const close = h("button", { class: "quiet", type: "button", "aria-label": `Stop watching ${entry.user}`, on: { click: () => drop(entry.user) } }, "×");
    return h("section", { class: "column", "aria-label": `Feed of ${entry.user}`, data: { user: entry.user } }, h("header", {}, h("h2", {}, entry.user), close), entry.note, entry.list);
  }

  // "refused" is told by whoever asked; the rest comes from the server
  const ended = ({ feed, reason }) => {
    if (reason !== "refused" && watched.has(feed)) toast(`The feed of ${feed} has ended (${reason}).`, "error");
    if (watched.has(feed)) drop(feed);
  };
  const stops = [client.subscribe(render), client.on("feed.closed", ended)];
  for (const user of watched) add(user);
  render();
  return { element, close: () => stops.forEach((stop) => stop()) };
}
