// The own feed, live: cards in the feed's order, source errors in place, groups as chips.

import { agoTime, h, reconcile, toast } from "../dom.js";
import { humanName, moment } from "../format.js";
import { newKey } from "./actions.js";
import { card, titleOf } from "./cards.js";

const GLOW_MS = 1_800;

export function feedView(session) {
  const { client } = session;
  const errors = h("div", { class: "errors" });
  const groups = h("div", { class: "groups" });
  const list = h("ol", { class: "cards", "aria-label": "Feed items" });
  const empty = h("p", { class: "empty" });
  const foot = h("p", { class: "foot" });
  const element = h("section", { class: "feed", "aria-label": "Feed" }, errors, groups, empty, list, foot);
  const actions = { dismiss: (item) => dismiss(client, list, item), complete: (item, button) => complete(client, item, button) };
  let first = true;

  function render() {
    const { items, feed, status } = client.getSnapshot();
    const { born, changed } = reconcile(list, items, (item) => item.id, (item) => h("li", {}, card(item, actions)));
    if (!first) [...born, ...changed].forEach(glow);
    if (feed) first = false;
    reconcile(errors, feed?.errors ?? [], (error) => error.sourceId, errorNote);
    reconcile(groups, feed?.groups ?? [], (group) => group.summary, (group) => groupChip(group, list));
    empty.hidden = items.length > 0;
    empty.replaceChildren(...emptyText(feed));
    foot.textContent = [
      feed?.pending.length ? `Still asking: ${feed.pending.join(", ")}.` : "",
      feed && status !== "live" ? `This is how it was at ${moment(feed.at)}.` : "",
    ].filter(Boolean).join(" ");
    element.setAttribute("aria-busy", String(status !== "live"));
  }

  const stop = client.subscribe(render);
  render();
  return { element, close: stop };
}

function emptyText(feed) {
  if (!feed) return ["Waiting for the feed…"];
  if (feed.pending.length) return ["Asking the sources…"];
  return ["Nothing in the feed right now. Switch sources on under ", h("a", { href: "#sources" }, "Sources"), "."];
}

/** Shows for a moment that this has changed. */
export function glow(element) {
  element.classList.add("changed");
  setTimeout(() => element.classList.remove("changed"), GLOW_MS);
}

function errorNote(error) {
  return h(
    "p",
    { class: "problem" },
    h("strong", {}, `${error.sourceId}: `),
    error.message,
    h("span", { class: "quiet-text" }, ` (${humanName(error.code)}, since `, agoTime(error.since), ")"),
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

async function dismiss(client, list, item) {
  const place = [...list.querySelectorAll("[data-item]")].find((one) => one.dataset.item === item.id)?.closest("li");
  const next = place?.nextElementSibling ?? place?.previousElementSibling;
  try {
    await client.call("item.dismiss", { id: item.id });
    toast(`Dismissed: ${titleOf(item)}`);
    // who works by keyboard goes on with the next card
    next?.querySelector(".dismiss")?.focus({ preventScroll: true });
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
      key: newKey(),
    });
    toast(`Done: ${titleOf(item)}`);
  } catch (error) {
    button.disabled = false;
    toast(`Not completed: ${error.message}`, "error");
  }
}
