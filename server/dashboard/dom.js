// Building and keeping the page's elements. Text always enters as text: nothing here parses HTML.

import { ago } from "./format.js";

/**
 * An element. `props`: `class`, `on` ({event: fn}), `data` (dataset), anything else as an attribute
 * (`true` = present, false/null = absent) or, for `value` and `checked`, as a property.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") for (const [type, fn] of Object.entries(value)) element.addEventListener(type, fn);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked") element[name] = value;
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Makes `parent`'s children show `entries` in their order, with as few moves as it takes.
 * An entry that is the same object as before keeps its element untouched.
 */
export function reconcile(parent, entries, keyOf, create) {
  const old = parent.keptEntries ?? new Map();
  const next = new Map();
  const born = [];
  const changed = [];
  for (const entry of entries) {
    const key = keyOf(entry);
    const before = old.get(key);
    if (before && before.entry === entry) {
      next.set(key, before);
      continue;
    }
    const element = create(entry, before?.element ?? null);
    if (before) {
      if (before.element !== element) before.element.replaceWith(element);
      changed.push(element);
    } else born.push(element);
    next.set(key, { entry, element });
  }
  for (const [key, { element }] of old) if (!next.has(key)) element.remove();
  let place = parent.firstChild;
  for (const { element } of next.values()) {
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  parent.keptEntries = next;
  return { born, changed };
}

/** A moment as "in 5 min" or "2 hr ago"; `keepTimes` keeps it true. */
export function agoTime(iso) {
  return h("time", { datetime: iso, data: { ago: iso } }, ago(iso));
}

const EVERY_MS = 20_000;
/** From now on every `agoTime` on the page is kept true. */
export function keepTimes() {
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-ago]")) time.textContent = ago(time.dataset.ago);
  }, EVERY_MS);
}

export function clear(element) {
  element.replaceChildren();
  delete element.keptEntries;
  return element;
}

let nextId = 0;
/** An id no other element has, for labels. */
export function uniqueId(stem) {
  nextId += 1;
  return `${stem}-${nextId}`;
}

export function toast(text, kind = "info") {
  const note = h("p", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "error" ? 9_000 : 5_000);
}
