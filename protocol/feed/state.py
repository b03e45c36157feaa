"""A whole feed at one moment, which never changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, Final

import orjson

from protocol.feed import reading
from protocol.feed.item import FeedItem
from protocol.feed.parts import ContextEntry, Group, SourceError
from protocol.frozen import JsonObject, NotJson

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FeedState", "sorted_context"]

_DIGEST_SIZE: Final = 12

# The time of a run is in every run's context; as content it would make every state a new one.
_TIME_KEY: Final = b'["time"]'


@dataclass(frozen=True, slots=True)
class FeedState:
    """Ordered items with unique ids, groups, source errors, context (sorted by key bytes), and the ids of
    sources that are still to give their first answer.

    Equal when every part is; `digest` says whether two states have the same content.
    """

    items: tuple[FeedItem, ...] = ()
    groups: tuple[Group, ...] = ()
    errors: tuple[SourceError, ...] = ()
    pending: tuple[str, ...] = ()
    context: tuple[ContextEntry, ...] = ()
    _digest: bytes | None = field(default=None, init=False, repr=False, compare=False)

    EMPTY: ClassVar[FeedState]

    @property
    def digest(self) -> bytes:
        """12 bytes that name the content, the same in every process and after every restart.

        Content is the ordered items, the groups, the errors without their times, and the context without
        `("time",)`; `pending` is not. Made at the first use from the items' own digests, kept from then on.
        """
        digest = self._digest
        if digest is None:
            digest = _digest(self)
            object.__setattr__(self, "_digest", digest)
        return digest

    def without_expired(self, now: datetime) -> FeedState:
        """What of it is to be shown at `now`; the state itself where nothing has expired."""
        shown = tuple([item for item in self.items if not item.is_expired(now)])
        if len(shown) == len(self.items):
            return self
        ids = {item.id for item in shown}
        groups = (
            Group(tuple([i for i in group.item_ids if i in ids]), group.summary) for group in self.groups
        )
        return replace(self, items=shown, groups=tuple([group for group in groups if group.item_ids]))

    def next_expiry(self, now: datetime) -> datetime | None:
        """When, after `now`, the first item is to be hidden; None where none ever is."""
        times = (item.expires_at for item in self.items)
        return min((time for time in times if time is not None and time > now), default=None)

    @classmethod
    def from_wire(cls, obj: JsonObject) -> FeedState:
        """Reads the params of a `feed.snapshot`. Raises ValueError that names the path."""
        items = reading.list_of(obj, "items", FeedItem.from_wire)
        if len({item.id for item in items}) != len(items):
            raise NotJson("two items of one id", ("items",))
        return cls(
            items,
            reading.list_of(obj, "groups", Group.from_wire),
            reading.list_of(obj, "errors", SourceError.from_wire),
            reading.texts(obj, "pending"),
            sorted_context(reading.list_of(obj, "context", ContextEntry.from_wire)),
        )


FeedState.EMPTY = FeedState()


def sorted_context(entries: Iterable[ContextEntry]) -> tuple[ContextEntry, ...]:
    """The entries in the order that a state keeps them in."""
    return tuple(sorted(entries, key=lambda entry: entry.key_bytes))


def _digest(state: FeedState) -> bytes:
    """One hash over length-marked parts: no two different contents feed it the same bytes."""
    # The items' own digests are nearly all there: read where they are kept, without a call for each.
    parts = [item._digest or item.digest for item in state.items]  # pyright: ignore[reportPrivateUsage]
    # JSON texts one after another, each on its own line: none holds a raw line feed.
    parts.append(_rest(state) if state.groups or state.errors else b"[%d,[],[]]" % len(parts))
    for entry in state.context:
        if entry.key_bytes != _TIME_KEY:
            parts += b"\n", entry.encoded
    return blake2b(b"".join(parts), digest_size=_DIGEST_SIZE).digest()


def _rest(state: FeedState) -> bytes:
    return orjson.dumps(
        [
            len(state.items),
            [[list(group.item_ids), group.summary] for group in state.groups],
            [error.content() for error in state.errors],
        ]
    )
