// A feed's state and how a delta changes it. Pure: no socket, no clock of its own.
// The rules are those of docs/protocol.md, "Feed state".

/** A delta could not be applied: the state it starts from is not the one we hold. */
export class DeltaError extends Error {
  constructor(message) {
    super(message);
    this.name = "DeltaError";
  }
}

/** The state that a `feed.snapshot` carries, frozen. Throws DeltaError for what is none. */
export function fromSnapshot(params) {
  if (typeof params?.feed !== "string" || typeof params.cursor !== "string") throw new DeltaError("a snapshot without a feed or cursor");
  return Object.freeze({
    feed: params.feed,
    cursor: params.cursor,
    at: params.at,
    items: list("items", params.items ?? []),
    groups: list("groups", params.groups ?? []),
    errors: list("errors", params.errors ?? []),
    pending: list("pending", params.pending ?? []),
    context: list("context", params.context ?? []),
  });
}

function list(name, value) {
  if (!Array.isArray(value)) throw new DeltaError(`${name} is no list`);
  return Object.freeze(value);
}

/**
 * The state after `delta`. Throws DeltaError where `delta.base` is not `state.cursor` or names
 * items that are not there; the caller then asks for the whole state.
 */
export function applyDelta(state, delta) {
  if (delta.base !== state.cursor) {
    throw new DeltaError(`the delta starts at ${delta.base}, we hold ${state.cursor}`);
  }
  return Object.freeze({
    feed: state.feed,
    cursor: delta.cursor,
    at: delta.at,
    items: Object.freeze(applyItems(state.items, delta)),
    groups: delta.groups ? list("groups", delta.groups) : state.groups,
    errors: delta.errors ? list("errors", delta.errors) : state.errors,
    pending: delta.pending ? list("pending", delta.pending) : state.pending,
    context: delta.context ? Object.freeze(applyContext(state.context, delta.context)) : state.context,
  });
}

function applyItems(items, { put = [], move = [], remove = [] }) {
  if (!put.length && !move.length && !remove.length) return items;
  const byId = new Map(items.map((item) => [item.id, item]));
  for (const id of remove) if (!byId.has(id)) throw new DeltaError(`cannot remove ${id}: not in the feed`);
  const placed = [];
  for (const { index, item } of put) placed.push({ index, item });
  for (const { index, id } of move) {
    const item = byId.get(id);
    if (!item) throw new DeltaError(`cannot move ${id}: not in the feed`);
    placed.push({ index, item });
  }
  placed.sort((a, b) => a.index - b.index);
  const gone = new Set(remove);
  for (const { item } of placed) gone.add(item.id);
  const kept = items.filter((item) => !gone.has(item.id));
  return weave(kept, placed);
}

// One pass instead of a splice per entry: a feed of 2,000 items stays linear.
function weave(kept, placed) {
  const result = [];
  let from = 0;
  for (const { index, item } of placed) {
    while (result.length < index && from < kept.length) result.push(kept[from++]);
    if (result.length !== index) throw new DeltaError(`index ${index} is past the end of the feed`);
    result.push(item);
  }
  while (from < kept.length) result.push(kept[from++]);
  return result;
}

function applyContext(context, { set = [], unset = [] }) {
  const byKey = new Map(context.map((entry) => [canonical(entry.key), entry]));
  for (const key of unset) byKey.delete(canonical(key));
  for (const entry of set) byKey.set(canonical(entry.key), entry);
  return [...byKey.values()];
}

/** JSON with the keys of every object sorted: `{b,a}` and `{a,b}` are one key. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.keys(value)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value);
}

/** The items still to be shown at `now` (milliseconds since the epoch): expired ones hide, also offline. */
export function visibleItems(items, now) {
  return items.some((item) => expired(item, now)) ? items.filter((item) => !expired(item, now)) : items;
}

/** When the next shown item expires, in milliseconds since the epoch, or null. */
export function nextExpiry(items, now) {
  let earliest = null;
  for (const item of items) {
    if (!item.expiresAt) continue;
    const at = Date.parse(item.expiresAt);
    if (at > now && (earliest === null || at < earliest)) earliest = at;
  }
  return earliest;
}

function expired(item, now) {
  return item.expiresAt !== undefined && item.expiresAt !== null && Date.parse(item.expiresAt) <= now;
}
