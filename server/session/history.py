"""The last revisions of a feed, so that whoever comes back can be given the difference.

A ring bounded by count and by bytes. States share their items, so an old revision costs only what it holds
alone: the items that have been replaced since.
"""

from __future__ import annotations

from datetime import datetime
from itertools import compress
from operator import is_not

from protocol.feed import Cursor, FeedItem, FeedState, cursor_text
from server.engine.state import Cause

__all__ = ["FeedHistory", "Revision"]

# What an item costs beside its bytes: the object, its data as Python values.
_ITEM_OVERHEAD = 1024
_TUPLE_SLOT = 8


class Revision:
    """One state of a feed, with its number and its cursor. In a history, immutable but for `frames`."""

    __slots__ = ("_cursor", "_epoch", "_feed", "at", "cause", "frames", "mono", "number", "seq", "state")

    def __init__(
        self,
        *,
        feed: str,
        epoch: bytes,
        number: int,
        seq: int,
        state: FeedState,
        at: datetime,
        mono: float,
        cause: Cause,
    ) -> None:
        self._feed = feed
        self._epoch = epoch
        self._cursor: str | None = None
        self.number = number
        self.seq = seq
        """The user's write that this state contains."""
        self.state = state
        self.at = at
        """When it changed, by the wall clock."""
        self.mono = mono
        """The same by the monotonic clock, in seconds: for ages and waits."""
        self.cause = cause
        self.frames: object = None
        """A place for whoever sends it to keep what was encoded for it. It goes with the revision."""

    @property
    def cursor(self) -> str:
        """The name clients know it by: made at the first use, since most revisions are never named."""
        cursor = self._cursor
        if cursor is None:
            digest = self.state.digest
            cursor = self._cursor = cursor_text(self._feed, self._epoch, self.number, self.seq, digest)
        return cursor

    def __repr__(self) -> str:
        return f"<Revision {self.number} of {len(self.state.items)} items>"


class FeedHistory:
    """The present revision and those before it that are still kept; their numbers have no gaps."""

    __slots__ = ("_max_bytes", "_max_count", "_revisions", "_weight", "_weights")

    def __init__(self, first: Revision, *, max_count: int = 64, max_bytes: int = 256 * 1024) -> None:
        self._revisions = [first]
        self._weights: list[int] = []  # of all but the present one: what each holds alone
        self._weight = 0
        self._max_count = max_count
        self._max_bytes = max_bytes

    @property
    def current(self) -> Revision:
        """What the feed is now."""
        return self._revisions[-1]

    def __len__(self) -> int:
        return len(self._revisions)

    @property
    def weight(self) -> int:
        """About how many bytes the revisions before the present one cost."""
        return self._weight

    def append(self, revision: Revision) -> None:
        """Makes `revision` the present one and lets go what is past the bounds."""
        before = self._revisions[-1]
        assert revision.number == before.number + 1, "revisions have no gaps"
        weight = _held_alone(before.state.items, revision.state.items)
        self._revisions.append(revision)
        self._weights.append(weight)
        self._weight += weight
        before.frames = None  # made for whoever followed it while it was the present one
        while len(self._revisions) > self._max_count or self._weight > self._max_bytes:
            self._drop_oldest()

    def since(self, number: int) -> Revision | None:
        """The revision of that number, or None where it is no longer (or was never) kept."""
        index = number - self._revisions[0].number
        return self._revisions[index] if 0 <= index < len(self._revisions) else None

    def find(self, cursor: Cursor, epoch: bytes) -> Revision | None:
        """The revision a client means: the very one, or the present one where the content is the same.

        None: the client must be given a snapshot.
        """
        if cursor.epoch == epoch:
            known = self.since(cursor.revision)
            if known is not None and known.state.digest == cursor.digest:
                return known
        return self.current if self.current.state.digest == cursor.digest else None

    def oldest_at_after(self, number: int) -> datetime:
        """When the first change after revision `number` happened; of what is kept, if that is longer ago."""
        after = self.since(number + 1)
        if after is not None:
            return after.at
        return self.current.at if number >= self.current.number else self._revisions[0].at

    def trim(self, before_mono: float) -> None:
        """Lets go revisions that were replaced before then: nobody is coming back for them."""
        while len(self._revisions) > 1 and self._revisions[1].mono < before_mono:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        del self._revisions[0]
        self._weight -= self._weights.pop(0)


def _held_alone(old: tuple[FeedItem, ...], new: tuple[FeedItem, ...]) -> int:
    """What of `old` would be freed if it were let go, give or take."""
    weight = _TUPLE_SLOT * len(old)
    if len(old) == len(new):
        # Most changes replace one item in its place.
        gone = list(compress(old, map(is_not, old, new)))
        if len(gone) == 1:
            return weight + _cost(gone[0])
    else:
        gone = list(old)
    kept = {id(item) for item in new}
    return weight + sum([_cost(item) for item in gone if id(item) not in kept])


def _cost(item: FeedItem) -> int:
    return len(item.encoded) + _ITEM_OVERHEAD
