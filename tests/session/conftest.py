"""Replicas to test: real managers on a real database, in one process, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel

from protocol.feed import FeedItem
from protocol.frozen import JsonValue
from protocol.ids import ReplicaId, SourceId, UserId
from server.engine.processors import PostProcessor
from server.replication import MemoryBus, MemoryHub
from server.session.actions import Actions
from server.session.history import Revision
from server.session.items import ItemWrites
from server.session.listeners import CloseReason
from server.session.manager import SessionManager
from server.session.options import SessionOptions
from server.session.parts import OverlayFactory
from server.session.patches import SourceWrites
from server.session.providers import ProviderWrites
from server.session.setup import SessionSetup
from server.session.user_session import UserSession
from server.session.users import UserWrites
from server.sources.inbox import InboxProvider
from server.sources.provider import AnyProvider
from server.sources.registry import ProviderRegistry
from server.sources.services import Services
from storage.credentials import KeyRing, generate_key
from storage.database import Database
from storage.source_configs import DefaultRow
from tests.support.clock import TestClock

ALICE = UserId("alice")
BOB = UserId("bob")
RING = KeyRing.parse(generate_key("test"))


NO_CHORES = SessionOptions(
    look_every_s=1e9, save_every_s=1e9, sweep_every_s=1e9, prune_every_s=1e9, idle_ttl_s=1e9
)
"""For walks over hours, which the database could not keep up with."""


@dataclass
class Replica:
    """One process's worth of sessions, and the ways to write."""

    manager: SessionManager
    bus: MemoryBus
    database: Database
    reached: dict[UserId, int] = field(default_factory=dict[UserId, int])

    def __post_init__(self) -> None:
        self.sources = SourceWrites(self.manager)
        self.items = ItemWrites(
            self.manager, lambda feeds: {feed: self.reached.get(feed, 0) for feed in feeds}
        )
        self.actions = Actions(self.manager, ReplicaId("r"))
        self.users = UserWrites(self.manager)
        self.providers = ProviderWrites(self.manager)

    async def session(self, user: UserId = ALICE) -> UserSession:
        """The user's session, when its sources have answered."""
        session = await self.manager.get_or_create(user)
        await session.answered(5.0)
        return session


@dataclass
class World:
    """The database and the bus that replicas share, and the clock."""

    clock: TestClock
    url: str
    stack: AsyncExitStack
    hub: MemoryHub = field(default_factory=MemoryHub)
    databases: list[Database] = field(default_factory=list[Database])

    async def replica(
        self,
        *providers: AnyProvider,
        defaults: Sequence[str] = (),
        options: SessionOptions | None = None,
        keys: KeyRing = RING,
        environment: dict[SourceId, BaseModel] | None = None,
        processors: Sequence[PostProcessor] = (),
        overlay: OverlayFactory | None = None,
    ) -> Replica:
        """A replica with these providers and an inbox. It ends with the test."""
        database = await self.stack.enter_async_context(Database.open(self.url, pool_size=4))
        self.databases.append(database)
        registry = ProviderRegistry([*providers, InboxProvider()])
        bus = MemoryBus(self.hub)
        given = [
            DefaultRow(row.source_id, row.enabled, dict(row.config)) for row in registry.defaults(defaults)
        ]
        setup = SessionSetup(
            database=database,
            bus=bus,
            clock=self.clock,
            registry=registry,
            keys=keys,
            services=lambda writes: Services(clock=self.clock, writes=writes),
            defaults=given,
            environment=environment or {},
            options=options or SessionOptions(),
            processors=processors,
            overlay=overlay,
            rng=Random(1),
        )
        manager = await self.stack.enter_async_context(SessionManager.open(setup))
        return Replica(manager, bus, database)

    async def eventually(self, condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
        """Moves the clock until the condition holds; fails if it doesn't within so many of its seconds."""
        end = self.clock.monotonic() + within_s
        await self.quiet()
        while not condition():
            assert self.clock.monotonic() < end, f"it did not come true within {within_s:g} s of the clock"
            await self._step(end)

    async def advance(self, seconds: float) -> None:
        """Moves the clock, no faster than the database answers."""
        end = self.clock.monotonic() + seconds
        await self.quiet()
        while self.clock.monotonic() < end:
            await self._step(end)

    async def quiet(self) -> None:
        """Returns when everything waits for the clock, and nothing for the database."""
        await self.clock.settle(quiet_s=0.002)
        while any(self._busy(database) for database in self.databases):
            await self.clock.settle(quiet_s=0.002)

    async def _step(self, end: float) -> None:
        steps = 0

        def stepped() -> bool:
            nonlocal steps
            steps += 1
            return steps > 1

        left = end - self.clock.monotonic()
        try:
            await self.clock.advance_until(stepped, limit_s=left)
        except AssertionError:
            await self.clock.advance(max(0.0, end - self.clock.monotonic()))
        await self.quiet()

    @staticmethod
    def _busy(database: Database) -> bool:
        pool = database.statistics()
        return pool.trouble is None and pool.size - pool.idle + pool.waiting > 0


@pytest.fixture
async def world(clock: TestClock, database_url: str) -> AsyncGenerator[World]:
    """Where a test starts its replicas."""
    async with AsyncExitStack() as stack:
        yield World(clock, database_url, stack)


class Listener:
    """Keeps what a session says. What it says can be waited for by `heard`."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.sources: list[dict[str, JsonValue]] = []
        self.closed: list[CloseReason] = []

    def on_revision(self, session: UserSession) -> None:
        self.revisions.append(session.history.current)

    def on_source_changed(self, session: UserSession, source_state: dict[str, JsonValue]) -> None:
        self.sources.append(source_state)

    def on_closed(self, session: UserSession, reason: CloseReason) -> None:
        self.closed.append(reason)


def texts(session: UserSession) -> list[Any]:
    """What the feed's items say."""
    return [text_of(item) for item in session.history.current.state.items]


def text_of(item: FeedItem) -> Any:
    return item.data.get("text")
