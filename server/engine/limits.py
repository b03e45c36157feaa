"""How much one feed may hold, and what is left out of one that wants more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.feed import FeedItem, Group
from protocol.ids import SourceId

__all__ = ["LIMITS_ID", "FeedLimits", "fit", "left_out_message", "size_of_groups"]

LIMITS_ID: Final = SourceId("freya.limits")
"""Under this name a feed says that something was left out of it."""


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Bounds on one feed, and on the patience with its parts.

    A snapshot must fit into one frame of 768 KiB: many clients refuse frames from 1 MiB on.
    """

    items: int = 2000
    bytes: int = 700 * 1024
    """Encoded items, context and groups together."""
    item_bytes: int = 32 * 1024
    context_bytes: int = 32 * 1024
    """Of one source."""
    processor_timeout_s: float = 2.0
    close_timeout_s: float = 5.0

    @property
    def held_items(self) -> int:
        """How many items of one source are kept at most, so that ranking has something to choose from."""
        return 2 * self.items


def fit(items: Sequence[FeedItem], limits: FeedLimits, room: int) -> int:
    """How many of the ranked items fit into `room` bytes and the limit of their number, from the top."""
    used = 0
    for index, item in enumerate(items[: limits.items]):
        used += len(item.encoded)
        if used > room:
            return index
    return min(len(items), limits.items)


def size_of_groups(groups: Sequence[Group]) -> int:
    """About what groups take on the wire, never less for plain text (escapes may double it)."""
    return sum(64 + 6 * len(group.summary) + sum(len(i) + 8 for i in group.item_ids) for group in groups)


def left_out_message(count: int) -> str:
    """The sentence that is shown."""
    things = "1 item is" if count == 1 else f"{count} items are"
    return f"{things} left out: the feed is full"
