"""The built-in sources in a running house: a real manager on a real database, on a clock that the test
moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import TypeVar

import pytest
from anyio import create_task_group

from protocol.feed import FeedItem
from protocol.frozen import JsonObject, JsonValue
from protocol.ids import ReplicaId, UserId
from server.engine.engine import FeedEngine
from server.engine.processors import PostProcessor
from server.engine.source import FeedSource
from server.engine.tasks import TaskScope
from server.replication import MemoryBus, MemoryHub
from server.session.actions import Actions
from server.session.manager import SessionManager
from server.session.options import SessionOptions
from server.session.patches import SourceWrites
from server.session.setup import SessionSetup
from server.session.user_session import UserSession
from server.sources.builtin import builtin_providers
from server.sources.registry import ProviderRegistry
from server.sources.services import Services, SourceOptions
from server.upstream.upstreams import Upstreams
from storage.credentials import KeyRing
from storage.database import Database, WriteTx
from tests.support.clock import TestClock

__all__ = ["ALICE", "Feed", "Feeds", "Home", "House", "NoWrites"]

T = TypeVar("T")

ALICE = UserId("alice")


@dataclass
class Home:
    """One user's session, as its client sees it."""

    clock: TestClock
    manager: SessionManager
    session: UserSession

    def __post_init__(self) -> None:
        self.actions = Actions(self.manager, ReplicaId("r"))
        self.sources = SourceWrites(self.manager)

    @property
    def user(self) -> UserId:
        return self.session.user

    @property
    def items(self) -> tuple[FeedItem, ...]:
        return self.session.history.current.state.items

    def of_type(self, kind: str) -> list[FeedItem]:
        return [item for item in self.items if item.type == kind]

    def data(self, kind: str) -> list[Mapping[str, JsonValue]]:
        return [item.data for item in self.of_type(kind)]

    def context(self) -> dict[str, JsonValue]:
        """What is known, by the last part of each key."""
        return {str(entry.key[-1]): entry.value for entry in self.session.history.current.state.context}

    async def act(self, source: str, action: str, **params: JsonValue) -> JsonValue:
        answer = await self.actions.execute(self.user, source, action, params)
        await self.settle()
        return answer

    async def put(self, source: str, config: JsonObject) -> None:
        """A new config in force, and its items in the feed."""
        await self.sources.put(self.user, source, enabled=True, config=config)
        await self.settle()

    async def switch_off(self, source: str) -> None:
        await self.sources.patch(self.user, source, enabled=False)
        await self.settle()

    async def settle(self) -> None:
        """Until everything that follows has followed: the engine asks a source ten times a second at most."""
        await self.clock.advance(0.2, quiet_s=0.01)


@dataclass
class House:
    """Replicas that share a database and a bus."""

    clock: TestClock
    url: str
    hub: MemoryHub
    options: SourceOptions = field(default_factory=SourceOptions)
    upstreams: Upstreams | None = None

    @asynccontextmanager
    async def replica(self) -> AsyncGenerator[SessionManager]:
        async with Database.open(self.url, pool_size=4) as database:
            registry = ProviderRegistry(builtin_providers(self.options))
            setup = SessionSetup(
                database=database,
                bus=MemoryBus(self.hub),
                clock=self.clock,
                registry=registry,
                keys=KeyRing.empty(),
                services=lambda writes: Services(self.clock, writes, self.options, self.upstreams),
                defaults=registry.defaults(),
                # What a manager does now and then only takes time here, wherever a test moves the clock.
                options=SessionOptions(look_every_s=1e6, save_every_s=1e6),
                rng=Random(1),
            )
            async with SessionManager.open(setup) as manager:
                yield manager

    @asynccontextmanager
    async def home(self, user: UserId = ALICE) -> AsyncGenerator[Home]:
        async with self.replica() as manager:
            yield await self.in_(manager, user)

    async def in_(self, manager: SessionManager, user: UserId = ALICE) -> Home:
        """That user's session on that replica, when its sources have answered, with somebody listening."""
        session = await manager.get_or_create(user)
        session.listen()
        await session.answered(5.0)
        home = Home(self.clock, manager, session)
        await home.settle()
        return home


class NoWrites:
    """Stands where nothing is to be written."""

    async def write(self, user: UserId, fn: Callable[[WriteTx], Awaitable[T]]) -> T:
        raise AssertionError("nothing is to be written")


@dataclass
class Feed:
    """Sources in an engine, and nothing behind it: for what time alone does."""

    clock: TestClock
    engine: FeedEngine

    @property
    def items(self) -> tuple[FeedItem, ...]:
        return self.engine.state.items

    @property
    def services(self) -> Services:
        return Services(clock=self.clock, writes=NoWrites())

    def of_type(self, kind: str) -> list[FeedItem]:
        return [item for item in self.items if item.type == kind]

    def data(self, kind: str) -> list[Mapping[str, JsonValue]]:
        return [item.data for item in self.of_type(kind)]

    async def add(self, *sources: FeedSource) -> None:
        for source in sources:
            self.engine.add(source)
        await self.clock.advance(0.2)

    async def refresh(self) -> None:
        async with create_task_group() as group:
            group.start_soon(self.engine.refresh)
            await self.clock.advance(0.2)

    async def to(self, moment: datetime) -> None:
        """Moves the clock to that time."""
        await self.clock.advance((moment - self.clock.now()).total_seconds())


@dataclass
class Feeds:
    """Where a test opens its feeds."""

    clock: TestClock
    tasks: TaskScope

    def open(self, *processors: PostProcessor) -> Feed:
        order = ProviderRegistry(builtin_providers(SourceOptions())).order
        engine = FeedEngine(
            clock=self.clock,
            tasks=self.tasks,
            on_change=lambda _: None,
            processors=processors,
            order=order,
            rng=Random(1),
        )
        engine.set_listening(True)
        return Feed(self.clock, engine)


@pytest.fixture
async def feeds(clock: TestClock) -> AsyncGenerator[Feeds]:
    async with create_task_group() as group:
        tasks = TaskScope(group)
        yield Feeds(clock, tasks)
        await tasks.aclose()


@pytest.fixture
def feed(feeds: Feeds) -> Feed:
    return feeds.open()


@pytest.fixture
def house(clock: TestClock, database_url: str) -> House:
    return House(clock, database_url, MemoryHub())


@pytest.fixture
async def home(house: House) -> AsyncGenerator[Home]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(house.home())
