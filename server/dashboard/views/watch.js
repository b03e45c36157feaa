// Several users' feeds side by side, for a token with feed:watch.

import { h, reconcile, toast } from "../dom.js";
import { card } from "./cards.js";

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
    watched.add(user);
    keep();
    render();
    try {
      await client.watch(user);
    } catch (error) {
      drop(user);
      toast(`${user}: ${error.message}`, "error");
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
      const entry = old && old.state === feeds[user] ? old : { user, state: feeds[user], list: old?.list ?? h("ol", { class: "cards" }) };
      entries.set(user, entry);
      return entry;
    });
    reconcile(columns, shown, (entry) => entry.user, column);
  }

  function column(entry, before) {
    const { changed, born } = reconcile(entry.list, entry.state?.items ?? [], (item) => item.id, (item) => h("li", {}, card(item)));
    if (before) [...changed, ...born].forEach((one) => one.classList.add("changed"));
    if (before) return before;
    const close = h("button", { class: "quiet", type: "button", "aria-label": `Stop watching ${entry.user}`, on: { click: () => drop(entry.user) } }, "×");
    return h("section", { class: "column", "aria-label": `Feed of ${entry.user}` }, h("header", {}, h("h2", {}, entry.user), close), entry.list);
  }

  const stop = client.subscribe(render);
  for (const user of watched) add(user);
  render();
  return { element, close: stop };
}
