"""The servers: three replicas that can be killed, and the ways between all of them, which can be broken."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import anyio
from anyio import to_thread

from protocol.ids import UserId
from server.tokens import TokenKeys, generate, mint
from storage.credentials import generate_key
from tests.support.postgres import PostgresServer
from tests.support.programs import ROOT, Server, bare_environment
from tests.support.proxy import Line, Proxy, open_proxy
from tests.support.redis import RedisServer

__all__ = ["Replica", "Town", "open_town"]

_REPLICAS = 3
_SCOPES = ("item:publish", "admin")
_TOKEN_S = 86_400.0


class Replica:
    """One server process, and its own way to Redis."""

    def __init__(self, number: int, environment: dict[str, str], to_redis: Proxy, folder: Path) -> None:
        self.number = number
        self.to_redis = to_redis
        self.port = 0
        self._environment = environment | {"REDIS_URL": f"redis://127.0.0.1:{to_redis.port}/0"}
        self._folder = folder
        self._server: Server | None = None

    @property
    def up(self) -> bool:
        return self._server is not None

    @property
    def server(self) -> Server:
        assert self._server is not None, "this replica is not running"
        return self._server

    async def start(self) -> None:
        """Returns when it is ready."""
        server = await to_thread.run_sync(self._started)
        self.port = int(server.place.rpartition(":")[2])
        self._server = server

    async def kill(self) -> None:
        """As a crash: nothing is said, nothing is saved."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As a deployment does it: SIGTERM, and all the time it takes."""
        await self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stops the process where it is: its sockets stay open, nothing is answered."""
        self.server.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self.server.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Leaves nothing behind."""
        if self._server is not None:
            self._server.close()

    def _started(self) -> Server:
        command = [sys.executable, "-m", "server", "serve", "--data-dir", str(self._folder)]
        server = Server(command, bare_environment(self._environment), ROOT)
        try:
            server.wait_line("Freya Push is ready")
            _ = server.place
        except BaseException:
            server.close()
            raise
        return server

    async def _end(self, by: signal.Signals) -> None:
        server, self._server = self.server, None
        server.process.send_signal(signal.SIGCONT)
        await to_thread.run_sync(server.end, by)
        await to_thread.run_sync(server.close)


class Town:
    """Everything that runs. `balancer` is where clients come in: any replica that is up, by chance."""

    def __init__(self, postgres: PostgresServer, redis: RedisServer, rng: Random) -> None:
        self.postgres = postgres
        self.redis = redis
        self.replicas: list[Replica] = []
        self.database = ""
        self.balancer: Proxy
        self._rng = rng
        self._keys_text = generate("HS256", "test")
        self._keys = TokenKeys.parse(self._keys_text)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.balancer.port}"

    def token(self, user: UserId) -> str:
        """The user's, who may publish too."""
        return mint(self._keys, user, now=datetime.now(UTC), ttl_s=_TOKEN_S, scopes=_SCOPES)

    def client_lines(self) -> list[Line]:
        """Connections of clients, as they are now."""
        return list(self.balancer.lines)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """The settings of every replica."""
        return {
            "PORT": "0",
            "DATABASE_URL": self.database,
            "FREYA_JWT_KEYS": self._keys_text,
            "FREYA_CREDENTIAL_KEYS": generate_key("test"),
            "FREYA_LOG_LEVEL": "warning",
            **more,
        }

    def any_port(self) -> int:
        """The port of a replica that is up; of the last one that was, where none is."""
        up = [replica for replica in self.replicas if replica.up] or self.replicas
        return self._rng.choice(up).port


@asynccontextmanager
async def open_town(
    postgres: PostgresServer,
    redis: RedisServer,
    database: str,
    folder: Path,
    *,
    rng: Random,
    replicas: int = _REPLICAS,
    **settings: str,
) -> AsyncGenerator[Town]:
    """The replicas, ready."""
    town = Town(postgres, redis, rng)
    town.database = database
    environment = town.environment(settings)
    async with AsyncExitStack() as stack:
        for number in range(replicas):
            to_redis = await stack.enter_async_context(open_proxy(lambda: redis.port))
            replica = Replica(number, environment, to_redis, folder)
            stack.callback(replica.close)
            town.replicas.append(replica)
        # One first: where nothing has been compiled yet, three would compile everything at the same time.
        await town.replicas[0].start()
        async with anyio.create_task_group() as starting:
            for replica in town.replicas[1:]:
                starting.start_soon(replica.start)
        town.balancer = await stack.enter_async_context(open_proxy(town.any_port))
        yield town
