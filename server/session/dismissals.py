"""Which items a user has sent away, and whether they are still what was sent away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, TypeAlias

from protocol.feed import FeedItem
from storage.dismissals import DismissalRow

__all__ = ["SYNTHETIC_SOURCE", "Dismissals", "dismissal_of"]

SYNTHETIC_SOURCE: Final = "freya.enhancement"
_SYNTHETIC_FOR: Final = timedelta(hours=24)

_DismissKey: TypeAlias = Callable[[FeedItem], bytes | None]
"""What of an item counts as its content; None where nobody can say just now."""


def dismissal_of(item: FeedItem, key: _DismissKey, now: datetime) -> DismissalRow:
    """The row that sends `item` away: until its content changes, or its whole type for a day where a model
    made it up (the next one would have another id and other words)."""
    if item.source_id == SYNTHETIC_SOURCE:
        return DismissalRow(_type_id(item), b"", now + _SYNTHETIC_FOR, now)
    return DismissalRow(item.id, _hash(item, key) or b"", None, now)


class Dismissals:
    """The dismissals of one user, applied to a list of items.

    `dismiss_key` says what of an item counts as its content. Hashes are kept per item object, so that a
    derivation costs a dict lookup for each item that was ever dismissed and nothing for the others.
    """

    __slots__ = ("_hashes", "_rows")

    def __init__(self, rows: Iterable[DismissalRow] = ()) -> None:
        self._rows = {row.item_id: row for row in rows}
        self._hashes: dict[str, tuple[FeedItem, bytes]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def replace(self, rows: Iterable[DismissalRow]) -> bool:
        """Takes over what is stored now; whether that is anything else than before."""
        new = {row.item_id: row for row in rows}
        if new == self._rows:
            return False
        self._rows = new
        self._hashes = {key: kept for key, kept in self._hashes.items() if key in new}
        return True

    def forget(self) -> None:
        """What counts as content may have changed: another instance of a source has been built."""
        self._hashes.clear()

    def next_end(self, now: datetime) -> datetime | None:
        """When the first dismissal that has an end comes to it, after `now`."""
        ends = (row.until for row in self._rows.values())
        return min((end for end in ends if end is not None and end > now), default=None)

    def apply(self, items: tuple[FeedItem, ...], key: _DismissKey, now: datetime) -> tuple[FeedItem, ...]:
        """The items that are left; the same tuple where nothing is hidden."""
        if not self._rows:
            return items
        shown = [item for item in items if not self._hides(item, key, now)]
        return items if len(shown) == len(items) else tuple(shown)

    def _hides(self, item: FeedItem, key: _DismissKey, now: datetime) -> bool:
        if item.source_id == SYNTHETIC_SOURCE:
            row = self._rows.get(_type_id(item))
            return row is not None and row.until is not None and row.until > now
        row = self._rows.get(item.id)
        if row is None:
            return False
        content = self._hash(item, key)
        # What nobody can judge was most likely dismissed as it is.
        return content is None or content == row.hash

    def _hash(self, item: FeedItem, key: _DismissKey) -> bytes | None:
        known = self._hashes.get(item.id)
        if known is not None and known[0] is item:
            return known[1]
        content = _hash(item, key)
        if content is not None:
            self._hashes[item.id] = (item, content)
        return content


def _type_id(item: FeedItem) -> str:
    return f"{SYNTHETIC_SOURCE}/*{item.type}"


def _hash(item: FeedItem, key: _DismissKey) -> bytes | None:
    content = key(item)
    if content is None:
        return None
    hashed = blake2b(item.type.encode(), digest_size=16)
    hashed.update(b"\0")
    hashed.update(content)
    return hashed.digest()
