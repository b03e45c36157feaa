"""What post-processors get and give. How their results become a feed is in `ranking`."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from protocol.feed import FeedItem, Group
from server.engine.context import Context

__all__ = ["NOTHING", "PostProcessor", "Processed"]


@dataclass(frozen=True, slots=True)
class Processed:
    """What a post-processor wants done with the items it saw.

    Applied in this order: `additional_items` are appended, `suppress` (ids) are taken out, `groups` formed,
    `boost` added to what earlier processors gave (id: -1..1; the sum is clamped to that at the end).
    `next_change_at`: when time alone would make it say something else (UTC; None: never).
    """

    additional_items: Sequence[FeedItem] = ()
    suppress: Sequence[str] = ()
    groups: Sequence[Group] = ()
    boost: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    next_change_at: datetime | None = None


NOTHING = Processed()


class PostProcessor(Protocol):
    """Sees the whole list, in order, as the processor before it left it.

    Called again for every change of the feed. Gives its result at once, or something to await: then the feed
    waits for it, up to a timeout. Items and context cannot be changed in place (TypeError). One that raises,
    hangs or answers nonsense is left out of that feed and reported under its name; the rest goes on.
    """

    @property
    def name(self) -> str:
        """A source id of its own (`freya.time-of-day`), under which its errors are shown."""
        ...

    def __call__(self, items: Sequence[FeedItem], ctx: Context) -> Processed | Awaitable[Processed]:
        """What to do with these items in this context."""
        ...
