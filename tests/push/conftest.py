"""A real gateway on real sockets, with real sessions on a real database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random

import pytest

from protocol.ids import ReplicaId, UserId
from server.engine.clock import Clock, SystemClock
from server.http.types import HttpRequest, HttpResponse
from server.push import Gateway, GatewaySetup, Listener, PushOptions
from server.push.methods.rooms import Alone, Replicas
from server.replication import MemoryBus, MemoryHub
from server.session.manager import SessionManager
from server.session.options import SessionOptions
from server.session.setup import SessionSetup
from server.sources.inbox import InboxProvider
from server.sources.provider import AnyProvider
from server.sources.registry import ProviderRegistry
from server.sources.services import Services
from server.tokens.claims import TokenOptions
from server.tokens.keys import TokenKeys, generate
from server.tokens.verifier import KeySource, TokenVerifier, mint
from storage.credentials import KeyRing, generate_key
from storage.database import Database
from storage.source_configs import DefaultRow
from tests.push.board import Board
from tests.support.clock import TestClock

ALICE = UserId("alice")
BOB = UserId("bob")
KEYS = TokenKeys.parse(generate("HS256", "test"))
RING = KeyRing.parse(generate_key("test"))


async def hello(request: HttpRequest) -> HttpResponse:
    """The pages beside the feed."""
    return HttpResponse(status=200, body=f"{request.method} {request.path}".encode())


@dataclass
class Server:
    """One replica, listening."""

    gateway: Gateway
    manager: SessionManager
    board: Board
    address: str
    clock: Clock
    database: Database

    def token(
        self,
        user: str = ALICE,
        *scopes: str,
        ttl_s: float = 3600.0,
        feeds: list[str] | None = None,
        age_s: float = 0.0,
    ) -> str:
        """A token for the user, issued now (or some time ago)."""
        now = self.clock.now()
        if age_s:
            now = now.fromtimestamp(now.timestamp() - age_s, now.tzinfo)
        return mint(KEYS, UserId(user), now=now, ttl_s=ttl_s, scopes=scopes, feeds=feeds)


Start = Callable[..., Awaitable[Server]]


@dataclass
class World:
    """The database and the bus that replicas share."""

    clock: Clock
    url: str
    stack: AsyncExitStack
    hub: MemoryHub = field(default_factory=MemoryHub)
    replicas: int = 0

    async def start(
        self,
        *providers: AnyProvider,
        options: PushOptions | None = None,
        sessions: SessionOptions | None = None,
        listener: Listener | None = None,
        ready: bool = True,
        tokens: TokenOptions | None = None,
        hub: MemoryHub | None = None,
        replicas: Replicas | None = None,
        figures: Callable[[], Mapping[str, object]] = dict,
        gauges: Callable[[], Mapping[str, float]] = dict,
        published: KeySource | None = None,
        db_timeout_s: float = 5.0,
        http_handler: Callable[[HttpRequest], Awaitable[HttpResponse]] = hello,
    ) -> Server:
        """A replica with a board, an inbox and these providers. It ends with the test."""
        self.replicas += 1
        board = Board()
        database = await self.stack.enter_async_context(
            Database.open(self.url, pool_size=4, timeout_s=db_timeout_s)
        )
        registry = ProviderRegistry([board, *providers, InboxProvider()])
        setup = SessionSetup(
            database=database,
            bus=MemoryBus(hub or self.hub),
            clock=self.clock,
            registry=registry,
            keys=RING,
            services=lambda writes: Services(clock=self.clock, writes=writes),
            defaults=[
                DefaultRow(row.source_id, row.enabled, dict(row.config)) for row in registry.defaults()
            ],
            options=sessions or SessionOptions(),
            rng=Random(1),
        )
        manager = await self.stack.enter_async_context(SessionManager.open(setup))
        verifier = TokenVerifier(
            KEYS, tokens or TokenOptions(leeway_s=0.0), self.clock.now, published=published
        )
        gateway = await self.stack.enter_async_context(
            Gateway.open(
                GatewaySetup(
                    manager=manager,
                    verifier=verifier,
                    clock=self.clock,
                    replica=ReplicaId(f"r{self.replicas}"),
                    http_handler=http_handler,
                    options=options or PushOptions(),
                    replicas=replicas or Alone(),
                    figures=figures,
                    gauges=gauges,
                    rng=Random(1),
                )
            )
        )
        addresses = await self.stack.enter_async_context(gateway.listen(listener or Listener(port=0)))
        if ready:
            gateway.set_ready()
        host, port = addresses[0]
        return Server(gateway, manager, board, f"{host}:{port}", self.clock, database)


@pytest.fixture
async def world(database_url: str) -> AsyncGenerator[World]:
    """Replicas by the machine's clock."""
    async with AsyncExitStack() as stack:
        yield World(SystemClock(), database_url, stack)


@pytest.fixture
async def slow_world(clock: TestClock, database_url: str) -> AsyncGenerator[World]:
    """Replicas by a clock that stands still until the test moves it."""
    async with AsyncExitStack() as stack:
        yield World(clock, database_url, stack)


@pytest.fixture
async def server(world: World) -> Server:
    """One replica."""
    return await world.start()
