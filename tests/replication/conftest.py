"""Buses to test: two or more that hear each other, over whatever carries them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio import create_task_group, fail_after
from anyio.abc import TaskGroup

from protocol.ids import ReplicaId, UserId
from server.replication.address import RedisAddress
from server.replication.bus import Bus, Hint
from server.replication.memory import MemoryBus, MemoryHub
from server.replication.redis import RedisBus, RedisBusOptions
from tests.replication.servers import cluster, sentinel
from tests.support.certificates import self_signed
from tests.support.proxy import Proxy, open_proxy
from tests.support.reaper import Reaper
from tests.support.redis import RedisServer

PATIENCE_S = 20.0
QUICK = RedisBusOptions(probe_every_s=0.2, backoff_s=0.05, backoff_most_s=0.2)
"""As the defaults, but for a test's patience."""


@dataclass
class Post:
    """One replica's end of the bus, and what was heard there."""

    bus: Bus
    name: ReplicaId
    hints: list[Hint] = field(default_factory=list[Hint])
    words: list[bytes] = field(default_factory=list[bytes])
    health: list[bool] = field(default_factory=list[bool])
    _news: anyio.Event = field(default_factory=anyio.Event)

    async def start(self, group: TaskGroup) -> None:
        self.bus.hear(self._heard(self.words))
        await group.start(self.bus.run, self._heard(self.hints), self._heard(self.health))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something heard to make it true."""
        with fail_after(PATIENCE_S):
            while not condition():
                self._news = anyio.Event()
                await self._news.wait()

    async def watch(self, user: UserId) -> None:
        self.bus.watch(user)
        await self.bus.wait_watching([user])

    def _heard(self, kept: list[object] | list[Hint] | list[bytes] | list[bool]) -> Callable[[object], None]:
        def hear(what: object) -> None:
            kept.append(what)  # pyright: ignore[reportArgumentType] -- each list is given its own kind
            self._news.set()

        return hear


@dataclass
class Town:
    """Where posts are opened."""

    make: Callable[[ReplicaId], Bus]
    group: TaskGroup
    count: int = 0

    async def post(self) -> Post:
        """A replica more, connected."""
        self.count += 1
        name = ReplicaId(f"r{self.count}")
        post = Post(self.make(name), name)
        await post.start(self.group)
        await post.until(lambda: post.bus.healthy)
        return post


@pytest.fixture(params=["memory", "redis", "redis over TLS", "redis by sentinel", "redis cluster"])
async def town(request: pytest.FixtureRequest) -> AsyncGenerator[Town]:
    """The same for everything that carries hints."""
    async with AsyncExitStack() as stack:
        makers: dict[str, Callable[[], Awaitable[Callable[[ReplicaId], Bus]]]] = {
            "memory": _memory,
            "redis": lambda: _plain(request),
            "redis over TLS": lambda: _tls(request, stack),
            "redis by sentinel": lambda: _sentinel(request, stack),
            "redis cluster": lambda: _cluster(request),
        }
        make = await makers[request.param]()
        async with create_task_group() as group:
            yield Town(make, group)
            group.cancel_scope.cancel()


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncGenerator[Proxy]:
    """A way to Redis that can be broken."""
    async with open_proxy(lambda: redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def frail(proxy: Proxy) -> AsyncGenerator[Town]:
    """Posts whose way to Redis leads through the proxy."""
    address = RedisAddress.parse(f"redis://127.0.0.1:{proxy.port}", timeout_s=1.0)
    async with create_task_group() as group:
        yield Town(lambda name: RedisBus(address.connector(), name, options=QUICK), group)
        group.cancel_scope.cancel()


@pytest.fixture(scope="session")
def cluster_ports(reaper: Reaper):
    with cluster(reaper) as ports:
        yield ports


def _over(url: str) -> Callable[[ReplicaId], Bus]:
    address = RedisAddress.parse(url)
    return lambda name: RedisBus(address.connector(), name)


async def _memory() -> Callable[[ReplicaId], Bus]:
    hub = MemoryHub()
    return lambda name: MemoryBus(hub, replica=name)


async def _plain(request: pytest.FixtureRequest) -> Callable[[ReplicaId], Bus]:
    return _over(request.getfixturevalue("redis_url"))


async def _tls(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Callable[[ReplicaId], Bus]:
    folder: Path = request.getfixturevalue("tmp_path")
    server: RedisServer = request.getfixturevalue("redis_server")
    context: ssl.SSLContext = self_signed(folder, "localhost")
    # The redis-server of the tests may have been built without TLS: a TLS end of our own stands before it.
    proxy = await stack.enter_async_context(open_proxy(lambda: server.port, tls=context))
    return _over(f"rediss://localhost:{proxy.port}/0?ssl_ca_certs={folder / 'server.pem'}")


async def _sentinel(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Callable[[ReplicaId], Bus]:
    server: RedisServer = request.getfixturevalue("redis_server")
    reaper: Reaper = request.getfixturevalue("reaper")
    return _over(stack.enter_context(sentinel(reaper, server)))


async def _cluster(request: pytest.FixtureRequest) -> Callable[[ReplicaId], Bus]:
    ports: list[int] = request.getfixturevalue("cluster_ports")
    # Each bus begins with another node: what one of them hears must reach all.
    rotations = [ports[start:] + ports[:start] for start in range(len(ports))]
    made = 0

    def make(name: ReplicaId) -> Bus:
        nonlocal made
        made += 1
        nodes = ",".join(f"127.0.0.1:{port}" for port in rotations[made % len(rotations)])
        return RedisBus(RedisAddress.parse(f"redis+cluster://{nodes}").connector(), name)

    return make
