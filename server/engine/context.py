"""What the sources know about the user's world, and the views of it that runs are given.

Entries are kept by the canonical bytes of their keys, so that `get` and `find` cannot disagree about which
keys are one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from protocol.feed import ContextEntry, ContextKey, context_key_bytes, sorted_context
from protocol.frozen import JsonValue

__all__ = ["Context", "ContextStore"]

_COMMA: Final = 0x2C
_CLOSE: Final = 0x5D


class Context:
    """One moment's view, which never changes: what was known, and `time`, the run's time (UTC)."""

    __slots__ = ("_entries", "time")

    def __init__(self, entries: dict[bytes, ContextEntry], time: datetime) -> None:
        # Shared with the store, which copies before it writes into what a view holds.
        self._entries = entries
        self.time = time

    @classmethod
    def of(cls, entries: Iterable[ContextEntry], time: datetime) -> Context:
        """A view of just these entries; of two under one key the later."""
        return cls({entry.key_bytes: entry for entry in entries}, time)

    @property
    def entries(self) -> tuple[ContextEntry, ...]:
        """Everything known, in insertion order."""
        return tuple(self._entries.values())

    def get(self, key: ContextKey) -> JsonValue:
        """The value under exactly this key; None where there is none (or where null is known).

        Raises ValueError for what is no key.
        """
        entry = self._entries.get(context_key_bytes(key))
        return None if entry is None else entry.value

    def entry(self, key_bytes: bytes) -> ContextEntry | None:
        """The entry under the key of these canonical bytes: for whoever looks it up over and over."""
        return self._entries.get(key_bytes)

    def find(self, prefix: ContextKey) -> tuple[ContextEntry, ...]:
        """The entries whose keys begin with these whole parts, the exact key included, in insertion order.

        `("a", "next")` finds `("a", "next")` and `("a", "next", 1)`, not `("a", "nextEvent")`. The empty
        prefix finds everything. Raises ValueError for parts that cannot be in a key.
        """
        if not prefix:
            return self.entries
        # Canonical JSON of the leading parts is the beginning of the whole key's; what follows a whole part
        # is a comma or the end of the list.
        lead = context_key_bytes(prefix)[:-1]
        at = len(lead)
        return tuple(
            [
                entry
                for key, entry in self._entries.items()
                if key.startswith(lead) and key[at] in (_COMMA, _CLOSE)
            ]
        )


class ContextStore:
    """The present context. Every change makes a new `version`; views already handed out stay as they were."""

    __slots__ = ("_entries", "_shared", "_sorted", "encoded_size", "version")

    def __init__(self) -> None:
        self._entries: dict[bytes, ContextEntry] = {}
        self._shared = False
        self._sorted: tuple[ContextEntry, ...] | None = ()
        self.version = 0
        self.encoded_size = 0
        """The bytes of all entries together."""

    def view(self, time: datetime) -> Context:
        """What is known now, seen at `time`."""
        self._shared = True
        return Context(self._entries, time)

    def sorted(self) -> tuple[ContextEntry, ...]:
        """All entries by key bytes, as a feed carries them; the same tuple until something changes."""
        if self._sorted is None:
            self._sorted = sorted_context(self._entries.values())
        return self._sorted

    def set(self, entries: Iterable[ContextEntry]) -> bool:
        """Merges, the last write of a key wins; returns whether anything is different now.

        An entry equal to the one before leaves that one in its place.
        """
        news = [entry for entry in entries if self._entries.get(entry.key_bytes) != entry]
        if not news:
            return False
        writable = self._begin()
        for entry in news:
            replaced = writable.get(entry.key_bytes)
            self.encoded_size += len(entry.encoded) - (0 if replaced is None else len(replaced.encoded))
            writable[entry.key_bytes] = entry
        return True

    def unset(self, keys: Iterable[ContextKey]) -> bool:
        """Removes what is under these keys; returns whether anything was."""
        gone = [name for key in keys if (name := context_key_bytes(key)) in self._entries]
        if not gone:
            return False
        writable = self._begin()
        for name in gone:
            entry = writable.pop(name, None)  # None: named twice
            self.encoded_size -= 0 if entry is None else len(entry.encoded)
        return True

    def replace(self, old: Iterable[ContextEntry], new: Iterable[ContextEntry]) -> bool:
        """One source's report in the place of its last: what is missing from it is withdrawn."""
        kept = {entry.key_bytes: entry for entry in new}
        withdrawn = self.unset([entry.key for entry in old if entry.key_bytes not in kept])
        return self.set(kept.values()) or withdrawn

    def _begin(self) -> dict[bytes, ContextEntry]:
        if self._shared:
            self._entries = dict(self._entries)
            self._shared = False
        self._sorted = None
        self.version += 1
        return self._entries
