// The own feed, live: cards in the feed's order, source errors in place, groups as chips.

import { h, reconcile, toast } from "../dom.js";
import { ago, humanName } from "../format.js";
import { card } from "./cards.js";

const GLOW_MS = 1_800;

export function feedView(session) {
  const { client } = session;
  const errors = h("div", { class: "errors" });
  const groups = h("div", { class: "groups" });
  const list = h("ol", { class: "cards", "aria-label": "Feed items" });
  const empty = h("p", { class: "empty" });
  const foot = h("p", { class: "foot" });
  const element = h("section", { class: "feed", "aria-label": "Feed" }, errors, groups, empty, list, foot);
  const actions = { dismiss: (item) => dismiss(client, item), complete: (item, button) => complete(client, item, button) };
  let first = true;

  function render() {
    const { items, feed, status } = client.getSnapshot();
    const { born, changed } = reconcile(list, items, (item) => item.id, (item) => h("li", {}, card(item, actions)));
    if (!first) [...born, ...changed].forEach(glow);
    if (feed) first = false;
    reconcile(errors, feed?.errors ?? [], (error) => error.sourceId, errorNote);
    reconcile(groups, feed?.groups ?? [], (group) => group.summary, (group) => groupChip(group, list));
    empty.hidden = items.length > 0;
    empty.textContent = feed ? "Nothing in the feed right now." : status === "live" ? "" : "Waiting for the feed…";
    foot.textContent = feed?.pending.length ? `Still asking: ${feed.pending.join(", ")}` : "";
  }

  const stop = client.subscribe(render);
  render();
  return { element, close: stop };
}

function glow(element) {
  element.classList.add("changed");
  setTimeout(() => element.classList.remove("changed"), GLOW_MS);
}

function errorNote(error) {
  return h(
    "p",
    { class: "problem" },
    h("strong", {}, `${error.sourceId}: `),
    error.message,
    h("span", { class: "quiet-text" }, ` (${humanName(error.code)}, since ${ago(error.since)})`),
    " ",
    h("a", { href: "#sources" }, "Settings"),
  );
}

function groupChip(group, list) {
  const jump = () => {
    const element = [...list.querySelectorAll("[data-item]")].find((one) => one.dataset.item === group.itemIds[0]);
    element?.scrollIntoView({ behavior: "smooth", block: "center" });
    element?.focus();
  };
  return h("button", { class: "chip", type: "button", on: { click: jump } }, `${group.summary} (${group.itemIds.length})`);
}

async function dismiss(client, item) {
  try {
    await client.call("item.dismiss", { id: item.id });
  } catch (error) {
    toast(`Not dismissed: ${error.message}`, "error");
  }
}

async function complete(client, item, button) {
  button.disabled = true;
  const { reminderId, originalDueAt } = item.data;
  try {
    await client.call("action.execute", {
      sourceId: item.sourceId,
      actionId: "complete-reminder",
      params: { reminderId, occurrenceDueAt: originalDueAt },
      key: crypto.randomUUID?.(),
    });
  } catch (error) {
    button.disabled = false;
    toast(`Not completed: ${error.message}`, "error");
  }
}
