"""What a source last reported, and how a new report is let in: checked, and with old objects kept where
nothing changed, so that later rooms can compare by identity."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress
from operator import is_not
from typing import Final, Literal, NamedTuple, Self

from protocol.feed import ContextEntry, FeedItem
from protocol.ids import SourceId
from server.engine.limits import FeedLimits
from server.engine.ranking import checked_time
from server.engine.source import Answer, BadAnswer

__all__ = [
    "NO_ITEMS",
    "Fingerprint",
    "Flaw",
    "Items",
    "SavedSource",
    "admit_context",
    "admit_items",
    "answered_items",
]


@dataclass(frozen=True, slots=True)
class SavedSource:
    """A source's last good report, as it outlives the process.

    `items` and `context` are the same objects as the last time where nothing changed. `input_key` is a
    mark of the input that the report was made from: kept along, an old report is not shown beside a new place
    when the source fails after a restart.
    """

    items: tuple[FeedItem, ...]
    context: tuple[ContextEntry, ...]
    saved_at: datetime
    input_key: str | None = None


class Fingerprint(str):
    """What is left of an input key after a restart."""

    __slots__ = ()

    @classmethod
    def of(cls, key: Hashable) -> Self:
        """The mark of a key made of plain values. Unequal keys have unequal marks; a mark is its own."""
        return key if isinstance(key, cls) else cls(repr(key))


class Items(NamedTuple):
    """One source's items, and what the engine wants to know of them all."""

    items: tuple[FeedItem, ...]
    size: int
    """Bytes, encoded."""
    next_expiry: datetime | None
    """When the first of them is to be hidden."""

    def unexpired(self, now: datetime) -> Items:
        """Without what is to be hidden at `now`; itself if that is nothing."""
        if self.next_expiry is None or self.next_expiry > now:
            return self
        return _measured([item for item in self.items if not item.is_expired(now)])


NO_ITEMS: Final = Items((), 0, None)


class Flaw(NamedTuple):
    """What was wrong with a report that was used but for a part of it."""

    code: Literal["badAnswer", "limit"]
    message: str
    limit: Literal["max_items", "max_item_bytes", ""] = ""
    """The setting whose limit it was."""


def admit_items(
    source: SourceId, old: Items, new: Sequence[FeedItem], limits: FeedLimits, now: datetime
) -> tuple[Items, Flaw | None]:
    """A source's new list as it is kept, and what is wrong with it.

    Returns `old` itself if nothing changed. Left out are items that have expired, are too large, have an id
    of another source, or one that came before. Raises BadAnswer for what is no list of items.
    """
    if new is old.items:
        return old.unexpired(now), None
    _check_list(new)
    if len(new) == len(old.items):
        quick = _replaced(old, new, limits, now)
        if quick is not None:
            return quick, None
    return _collected(source, old, new, limits, now)


def _replaced(old: Items, new: Sequence[FeedItem], limits: FeedLimits, now: datetime) -> Items | None:
    """The hot path: the same ids in the same places, so they need no check. None if that is not so."""
    before = old.items
    kept = list(new)
    size = old.size
    expiring = old.next_expiry is not None
    changed = False
    # Most are the objects of before: those are passed over without a step of the interpreter.
    for index in compress(range(len(kept)), map(is_not, kept, before)):
        was, item = before[index], kept[index]
        if type(item) is not FeedItem or item.id != was.id or item.source_id != was.source_id:
            return None
        encoded, were = item.encoded, was.encoded
        if encoded == were:
            kept[index] = was
            continue
        if len(encoded) > limits.item_bytes:
            return None
        size += len(encoded) - len(were)
        expiring = expiring or item.expires_at is not None
        changed = True
    if not changed:
        return old.unexpired(now)
    if expiring:
        return _measured(kept).unexpired(now)
    return Items(tuple(kept), size, None)


def _collected(
    source: SourceId, old: Items, new: Sequence[FeedItem], limits: FeedLimits, now: datetime
) -> tuple[Items, Flaw | None]:
    before = {item.id: item for item in old.items}
    kept: dict[str, FeedItem] = {}
    flaw: Flaw | None = None
    for item in new:
        if not isinstance(item, FeedItem):  # pyright: ignore[reportUnnecessaryIsInstance] -- a plugin made it
            raise BadAnswer("The source reported something that is not an item")
        if item.is_expired(now):
            continue
        wrong = _what_is_wrong(source, item, kept, limits)
        if wrong is not None:
            flaw = flaw or wrong
            continue
        was = before.get(item.id)
        kept[item.id] = item if was is None or was.encoded != item.encoded else was
    collected = list(kept.values())
    if len(collected) == len(old.items) and all(a is b for a, b in zip(collected, old.items, strict=True)):
        return old, flaw
    return _measured(collected), flaw


def _what_is_wrong(
    source: SourceId, item: FeedItem, kept: dict[str, FeedItem], limits: FeedLimits
) -> Flaw | None:
    if item.source_id != source or not item.id.startswith(source + "/"):
        return Flaw("badAnswer", "An item bears the id of another source and is left out")
    if item.id in kept:
        return Flaw("badAnswer", f"Two items have the id {_short(item.id)}; the first is shown")
    if len(item.encoded) > limits.item_bytes:
        message = f"The item {_short(item.id)} is larger than {limits.item_bytes} bytes"
        return Flaw("limit", message, "max_item_bytes")
    if len(kept) >= limits.held_items:
        message = f"The source has more than {limits.held_items} items; the rest is left out"
        return Flaw("limit", message, "max_items")
    return None


def admit_context(
    source: SourceId, old: tuple[ContextEntry, ...], new: Sequence[ContextEntry], limits: FeedLimits
) -> tuple[tuple[ContextEntry, ...], Flaw | None]:
    """A source's new context as it is kept, and what is wrong with it: as `admit_items` does for items."""
    before = {entry.key_bytes: entry for entry in old}
    kept: dict[bytes, ContextEntry] = {}
    flaw: Flaw | None = None
    size = 0
    _check_list(new)
    for entry in new:
        if not isinstance(entry, ContextEntry):  # pyright: ignore[reportUnnecessaryIsInstance] -- a plugin made it
            raise BadAnswer("The source reported something that is not a context entry")
        if entry.key[0] != source:
            flaw = flaw or Flaw("badAnswer", "A context entry is not under the source's id and is left out")
            continue
        size += len(entry.encoded)
        if size > limits.context_bytes:
            flaw = flaw or Flaw("limit", f"The source's context is larger than {limits.context_bytes} bytes")
            continue
        was = before.get(entry.key_bytes)
        kept[entry.key_bytes] = entry if was is None or was.encoded != entry.encoded else was
    entries = tuple(kept.values())
    return (old if entries == old else entries), flaw


def answered_items(answer: Answer | Sequence[FeedItem]) -> tuple[Sequence[FeedItem], datetime | None]:
    """Both forms of an answer in one. Raises BadAnswer for a time that compares with nothing."""
    if not isinstance(answer, Answer):
        return answer, None
    try:
        return answer.items, checked_time(answer.next_change_at)
    except ValueError as wrong:
        raise BadAnswer("The source reported a next change without a time zone") from wrong


def _check_list(reported: Sequence[object]) -> None:
    if type(reported) in (tuple, list):  # the rest is slow
        return
    if isinstance(reported, (str, bytes)) or not isinstance(reported, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance] -- a plugin made it
        raise BadAnswer("The source reported something that is not a list")


def _measured(items: list[FeedItem]) -> Items:
    expiry = [item.expires_at for item in items if item.expires_at is not None]
    return Items(tuple(items), sum([len(item.encoded) for item in items]), min(expiry, default=None))


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
