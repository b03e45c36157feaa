"""The difference between two states of a feed, and how it is applied.

`apply(old, diff(old, new)) == new`, always, with as few moves as there can be. How a delta looks on the
wire is in `protocol.encoding`; this module also reads it back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import ClassVar, TypeAlias, cast

from protocol.feed import (
    ContextEntry,
    ContextPart,
    FeedItem,
    FeedState,
    Group,
    SourceError,
    context_key_bytes,
    reading,
    sorted_context,
)
from protocol.frozen import JsonObject, JsonValue, NotJson

__all__ = ["ContextChange", "Delta", "DeltaError", "apply", "diff"]

_Items: TypeAlias = tuple[FeedItem, ...]
_Puts: TypeAlias = tuple[tuple[int, FeedItem], ...]
_Moves: TypeAlias = tuple[tuple[int, str], ...]
_Context: TypeAlias = tuple[ContextEntry, ...]


class DeltaError(ValueError):
    """A delta that cannot be applied to the state it was applied to."""


@dataclass(frozen=True, slots=True)
class ContextChange:
    """Entries that are new or other than before, and the canonical bytes of the keys that are gone."""

    set: tuple[ContextEntry, ...]
    unset: tuple[bytes, ...]

    @classmethod
    def from_wire(cls, obj: JsonObject) -> ContextChange:
        """Reads the wire object. Raises ValueError that names the path."""
        unset = reading.items(obj, "unset")
        return cls(
            reading.list_of(obj, "set", ContextEntry.from_wire),
            tuple([_key_bytes(key, at) for at, key in enumerate(unset)]),
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """What turns one state into another.

    First the ids in `remove` go; then every id in `put` and `move` is taken out; then the items of `put`
    and the taken items of `move` are inserted in ascending index. The rest is whole new values, None
    where nothing changed.
    """

    put: tuple[tuple[int, FeedItem], ...] = ()
    move: tuple[tuple[int, str], ...] = ()
    remove: tuple[str, ...] = ()
    groups: tuple[Group, ...] | None = None
    errors: tuple[SourceError, ...] | None = None
    pending: tuple[str, ...] | None = None
    context: ContextChange | None = None

    EMPTY: ClassVar[Delta]

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing at all."""
        return self.is_content_empty and self.context is None

    @property
    def is_content_empty(self) -> bool:
        """Whether it changes nothing beside context: nothing at all, for whoever did not ask for context."""
        return (
            not (self.put or self.move or self.remove) and self.groups is self.errors is self.pending is None
        )

    @classmethod
    def from_wire(cls, obj: JsonObject) -> Delta:
        """Reads the params of a `feed.delta`. Raises ValueError that names the path."""
        context = reading.object_or_none(obj, "context")
        return cls(
            tuple([(_index(e, "put", at), _put_item(e, at)) for at, e in reading.objects(obj, "put")]),
            tuple([(_index(e, "move", at), reading.text(e, "id")) for at, e in reading.objects(obj, "move")]),
            reading.texts(obj, "remove"),
            reading.list_of(obj, "groups", Group.from_wire) if "groups" in obj else None,
            reading.list_of(obj, "errors", SourceError.from_wire) if "errors" in obj else None,
            reading.texts(obj, "pending") if "pending" in obj else None,
            None if context is None else ContextChange.from_wire(context),
        )


Delta.EMPTY = Delta()


def diff(old: FeedState, new: FeedState) -> Delta:
    """What turns `old` into `new`: exact, with the fewest moves.

    Items are compared by identity, then by their bytes. Costs a look at each item while the order of
    ids is the same, a sort of the unchanged ones (n log n) where it is not.
    """
    if old is new:
        return Delta.EMPTY
    put, move, remove = _diff_items(old.items, new.items)
    return Delta(
        put,
        move,
        remove,
        None if old.groups == new.groups else new.groups,
        None if old.errors == new.errors else new.errors,
        None if old.pending == new.pending else new.pending,
        None if old.context == new.context else _diff_context(old.context, new.context),
    )


def apply(state: FeedState, delta: Delta) -> FeedState:
    """The state that `delta` makes of `state`. Raises DeltaError where it was not made from that state."""
    return FeedState(
        _apply_items(state.items, delta),
        state.groups if delta.groups is None else delta.groups,
        state.errors if delta.errors is None else delta.errors,
        state.pending if delta.pending is None else delta.pending,
        state.context if delta.context is None else _apply_context(state.context, delta.context),
    )


def _diff_items(old: _Items, new: _Items) -> tuple[_Puts, _Moves, tuple[str, ...]]:
    if old is new:
        return (), (), ()
    if len(old) == len(new):
        put: list[tuple[int, FeedItem]] = []
        index = -1
        for was, now in zip(old, new, strict=True):
            index += 1  # cheaper than `enumerate` and its tuples, where nearly all are the same object
            if was is not now:
                if was.id != now.id:
                    break
                if was.encoded != now.encoded:
                    put.append((index, now))
        else:
            return tuple(put), (), ()
    return _diff_reordered(old, new)


def _diff_reordered(old: _Items, new: _Items) -> tuple[_Puts, _Moves, tuple[str, ...]]:
    places = {item.id: index for index, item in enumerate(old)}
    put: list[tuple[int, FeedItem]] = []
    same: list[tuple[int, str]] = []
    was_at: list[int] = []
    for index, item in enumerate(new):
        place = places.pop(item.id, None)
        if place is None or item != old[place]:
            put.append((index, item))
        else:
            same.append((index, item.id))
            was_at.append(place)
    # What stays where it is must be a run of unchanged items in their old order: the longest one there is.
    staying = _longest_rise(was_at)
    move = [entry for at, entry in enumerate(same) if at not in staying]
    return tuple(put), tuple(move), tuple(places)


def _longest_rise(values: Sequence[int]) -> Container[int]:
    """The positions of a longest strictly rising subsequence of distinct values (patience sorting)."""
    if all(a < b for a, b in pairwise(values)):
        return range(len(values))
    tails: list[int] = []  # the least value that ends a rise of each length
    tail_at: list[int] = []  # and where it stands
    before: list[int] = []  # where the rise that ends here stood one step earlier
    for at, value in enumerate(values):
        length = bisect_left(tails, value)
        before.append(tail_at[length - 1] if length else -1)
        if length == len(tails):
            tails.append(value)
            tail_at.append(at)
        else:
            tails[length], tail_at[length] = value, at
    rise: set[int] = set()
    at = tail_at[-1]
    while at >= 0:
        rise.add(at)
        at = before[at]
    return rise


def _apply_items(items: _Items, delta: Delta) -> _Items:
    if not (delta.put or delta.move or delta.remove):
        return items
    taken = [*delta.remove, *(item.id for _, item in delta.put), *(item_id for _, item_id in delta.move)]
    named = set(taken)
    if len(named) != len(taken):
        raise DeltaError("an id is named twice")
    out = {item.id: item for item in items if item.id in named}
    if missing := [item_id for item_id in (*delta.remove, *(i for _, i in delta.move)) if item_id not in out]:
        raise DeltaError(f"there is no item {missing[0]}")
    staying = [item for item in items if item.id not in named]
    inserts = sorted([*delta.put, *((index, out[i]) for index, i in delta.move)], key=itemgetter(0))
    return _merge(staying, inserts)


def _merge(staying: list[FeedItem], inserts: list[tuple[int, FeedItem]]) -> _Items:
    """What inserting one after another in ascending index gives, without moving the tail each time."""
    merged: list[FeedItem] = []
    used = 0
    for index, item in inserts:
        gap = index - len(merged)
        if gap < 0 or used + gap > len(staying):
            raise DeltaError(f"nothing can be inserted at index {index}")
        merged += staying[used : used + gap]
        merged.append(item)
        used += gap
    return (*merged, *staying[used:])


def _diff_context(old: _Context, new: _Context) -> ContextChange:
    before = {entry.key_bytes: entry for entry in old}
    changed = [entry for entry in new if before.pop(entry.key_bytes, None) != entry]
    return ContextChange(tuple(changed), tuple(before))


def _apply_context(context: _Context, change: ContextChange) -> _Context:
    entries = {entry.key_bytes: entry for entry in context}
    for key in change.unset:
        if entries.pop(key, None) is None:
            raise DeltaError("there is no context entry of that key")
    entries.update({entry.key_bytes: entry for entry in change.set})
    return sorted_context(entries.values())


def _index(entry: JsonObject, key: str, at: int) -> int:
    index = entry.get("index")
    if isinstance(index, bool) or not isinstance(index, int):
        raise NotJson("not an index", (key, at, "index"))
    return index


def _put_item(entry: JsonObject, at: int) -> FeedItem:
    try:
        return FeedItem.from_wire(reading.as_object(entry.get("item"), "item"))
    except NotJson as wrong:
        raise wrong.below(at).below("put") from None


def _key_bytes(key: JsonValue, at: int) -> bytes:
    if not isinstance(key, list):
        raise NotJson("not a list", ("unset", at))
    return context_key_bytes(cast("Sequence[ContextPart]", key))
