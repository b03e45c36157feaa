"""The ways out of the process, made together and closed together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from server.engine.clock import Clock
from server.upstream.addresses import is_public
from server.upstream.client import ClientLimits, UpstreamClient
from server.upstream.counters import HostStatistics
from server.upstream.documents import Documents
from server.upstream.guarded import GuardedFetcher, GuardedLimits
from server.upstream.network import Resolve, anywhere
from server.upstream.resolver import SystemResolver
from server.upstream.shared import SharedStatistics
from server.upstream.workers import Workers, WorkerStatistics

__all__ = ["UpstreamOptions", "UpstreamStatistics", "Upstreams"]


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """What an operator decides about the ways out."""

    allow_private: bool = False
    """Whether addresses that users name may lead into private networks."""

    user_agent: str = "freya-push"
    client: ClientLimits = field(default_factory=ClientLimits)
    guarded: GuardedLimits = field(default_factory=GuardedLimits)
    workers: int = 2
    """Processes for calendars and feeds."""


@dataclass(frozen=True, slots=True)
class UpstreamStatistics:
    """Everything that is counted here, since the start."""

    hosts: Mapping[str, HostStatistics]
    """The services we know, by host."""
    joined: int
    """Calls to them that were answered by another's request."""
    guarded: HostStatistics
    """Everything that users name, together."""
    documents: SharedStatistics
    workers: WorkerStatistics


class Upstreams:
    """What sources reach the outside with. One a process; use `open`."""

    def __init__(
        self,
        clock: Clock,
        options: UpstreamOptions | None = None,
        *,
        resolver: Resolve | None = None,
    ) -> None:
        options = options or UpstreamOptions()
        self.client = UpstreamClient(clock, limits=options.client, user_agent=options.user_agent)
        self.guarded = GuardedFetcher(
            clock,
            resolver or SystemResolver(),
            may_reach=anywhere if options.allow_private else is_public,
            limits=options.guarded,
            user_agent=options.user_agent,
        )
        self.documents = Documents(clock, self.guarded)
        self.workers = Workers(at_once=options.workers)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, clock: Clock, options: UpstreamOptions | None = None, *, resolver: Resolve | None = None
    ) -> AsyncGenerator[Upstreams]:
        """Ready to be used; closed at the end of the block."""
        upstreams = cls(clock, options, resolver=resolver)
        async with upstreams.client, upstreams.guarded:
            yield upstreams

    def statistics(self) -> UpstreamStatistics:
        """See UpstreamStatistics."""
        return UpstreamStatistics(
            hosts=self.client.statistics(),
            joined=self.client.joined,
            guarded=self.guarded.statistics(),
            documents=self.documents.statistics(),
            workers=self.workers.statistics(),
        )
