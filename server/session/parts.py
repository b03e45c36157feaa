"""What every session is made with: one set of parts for the process, so that a session itself is small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol

from protocol.feed import FeedItem
from protocol.ids import SourceId, UserId
from server.engine.clock import Clock
from server.engine.context import Context
from server.engine.limits import FeedLimits
from server.engine.processors import PostProcessor
from server.engine.source import FeedSource
from server.engine.status import EngineCounts
from server.session.builds import SourceBuilder
from server.session.options import SessionOptions
from server.sources.registry import ProviderRegistry
from storage.loading import UserRows

if TYPE_CHECKING:
    from server.session.user_session import UserSession

__all__ = ["Overlay", "OverlayFactory", "PreparedSources", "SessionParts"]


class Overlay(Protocol):
    """What is laid over the sources' items of one session before they become its feed.

    One neighbour of a session, held under one name; all calls are synchronous and must not wait nor raise.
    """

    def fill(self, items: tuple[FeedItem, ...], context: Context) -> tuple[FeedItem, ...]:
        """The items with their slots filled and made-up items added, from what is known already. Pure: it may
        be called at any time, and returns the same tuple where it has nothing to add."""
        ...

    def restore(self, rows: UserRows) -> None:
        """Takes over what is stored of this user; the session derives its feed anew afterwards."""
        ...

    def revised(self, session: UserSession) -> None:
        """The session has a new revision: time to see whether there is something to do."""
        ...

    def listening(self, session: UserSession) -> None:
        """`session.is_listened_to` has turned."""
        ...

    async def aclose(self) -> None:
        """The session ends. Its tasks are cancelled already."""
        ...


OverlayFactory = Callable[["UserSession"], Overlay]


class PreparedSources:
    """Sources that were built and asked before their rows were committed: a verified write's.

    Put here before COMMIT, under the version the write is going to have, so that whoever reads the rows first
    finds it: another reader may be quicker than the writer.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[UserId, SourceId, int], FeedSource] = {}

    def put(self, user: UserId, source_id: SourceId, version: int, source: FeedSource) -> None:
        """Offers `source` for that version of the row."""
        self._waiting[user, source_id, version] = source

    def take(self, user: UserId, source_id: SourceId, version: int) -> FeedSource | None:
        """Takes it out, if it is there: the source is the caller's from then on."""
        return self._waiting.pop((user, source_id, version), None)


def _nothing_set(_: SourceId) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class SessionParts:
    """Shared by all sessions of a process."""

    clock: Clock
    providers: ProviderRegistry
    builder: SourceBuilder
    reread: Callable[[UserId], None]
    """Asks for this user's rows to be read and applied again, soon."""
    idle: Callable[[UserSession], None]
    """Told when the last listener has left or the first one has come."""
    settings_version: Callable[[SourceId], int] = _nothing_set
    """Which settings of a provider are in force: a source built under others is built again."""
    options: SessionOptions = field(default_factory=SessionOptions)
    limits: FeedLimits = field(default_factory=FeedLimits)
    processors: Sequence[PostProcessor] = ()
    overlay: OverlayFactory | None = None
    prepared: PreparedSources = field(default_factory=PreparedSources)
    rng: Random = field(default_factory=Random)
    counts: EngineCounts = field(default_factory=EngineCounts)
