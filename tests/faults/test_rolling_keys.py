"""Both changes of keys of docs/operations.md, on two running replicas behind a balancer: append, roll, move
to the front, roll, `rotate-keys`, drop, roll. Meanwhile a client stays, renews its token every second, and is
never refused; and what the one replica seals the other opens, at every moment of every roll.
"""

from __future__ import annotations

import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import permutations, product
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio import fail_after, to_thread

from protocol.client import LiveFeed, Status, connect
from protocol.feed import FeedState
from protocol.ids import SourceId, UserId
from server.tokens import TokenKeys, generate, mint
from storage import source_configs
from storage.credentials import KeyRing, generate_key, key_id_of
from storage.database import Database
from tests.support.plugins import installed
from tests.support.postgres import PostgresServer
from tests.support.programs import ROOT, Server, bare_environment, running
from tests.support.proxy import open_proxy
from tests.support.redis import RedisServer

ALICE, BOB = UserId("alice"), UserId("bob")
VAULT = SourceId("test.vault")
PATIENCE_S = 60.0
OTHERS = 40
"""Users whose credentials the old key has sealed, so that a change of keys takes a while."""

JWT = {name: generate("HS256", name) for name in ("old", "new")}
CREDENTIALS = {name: generate_key(name) for name in ("old", "new")}

SOURCE = """
from datetime import UTC, datetime

from pydantic import SecretStr

from server.engine.source import FeedSource
from server.sources.provider import ConfigModel, FeedProvider, NoConfig


class Word(ConfigModel):
    word: SecretStr


class VaultSource(FeedSource):
    id = "test.vault"

    def __init__(self, word):
        self._word = word

    async def fetch_items(self, ctx):
        data = {"backwards": self._word[::-1]}
        return [self.item("1", type="note", timestamp=datetime(2026, 3, 2, tzinfo=UTC), data=data)]


class VaultProvider(FeedProvider[NoConfig, Word]):
    source_id = "test.vault"
    name = "Vault"
    config_schema = NoConfig
    credentials_schema = Word

    async def source_for_user(self, user, config, credentials, services):
        return VaultSource(credentials.word.get_secret_value())
"""


class Deployment:
    """Two replicas, the keys they run with, and the balancer before them."""

    def __init__(self, database: str, redis: RedisServer, folder: Path) -> None:
        self.folder = folder
        self.keys: list[tuple[str, ...]] = [("old",), ("old",)]
        """The names of each replica's keys, the first one first."""
        self.issuer = "old"
        """The key that tokens are signed with."""
        self.issued = Counter[str]()
        self.refused: list[str] = []
        """What replicas had counted when they ended."""
        self.words = 0
        self._database = database
        self._redis = redis
        self._plugin = installed(folder, "vault", "VaultProvider", SOURCE)
        self._replicas: list[Server | None] = [None, None]
        self._started: list[Server] = []

    @property
    def up(self) -> list[Server]:
        """The replicas that take clients."""
        return [replica for replica in self._replicas if replica is not None]

    def environment(self, names: tuple[str, ...]) -> dict[str, str]:
        """The settings of a process that has these keys."""
        return {
            "PORT": "0",
            "DATABASE_URL": self._database,
            "REDIS_URL": self._redis.url,
            "FREYA_JWT_KEYS": ",".join(JWT[name] for name in names),
            "FREYA_CREDENTIAL_KEYS": ",".join(CREDENTIALS[name] for name in names),
            "FREYA_LOG_LEVEL": "warning",
            "FREYA_LOOP_BLOCKED_MS": "0",
            **self._plugin,
        }

    def any_port(self) -> int:
        """Where the balancer sends the next client."""
        return int(self.up[-1].place.rpartition(":")[2])

    def token(self, user: UserId, signer: str, ttl_s: float = 600.0) -> str:
        return mint(TokenKeys.parse(JWT[signer]), user, now=datetime.now(UTC), ttl_s=ttl_s)

    async def issue(self) -> str:
        """Alice's next token, from an issuer that takes a second: each is to be renewed at once."""
        await anyio.sleep(1.0)
        self.issued[self.issuer] += 1
        return self.token(ALICE, self.issuer, ttl_s=50.0)

    async def start(self, number: int, names: tuple[str, ...]) -> None:
        """Starts a replica with these keys; returns when it is ready."""
        command = [sys.executable, "-m", "server", "serve", "--data-dir", str(self.folder)]

        def started() -> Server:
            server = Server(command, bare_environment(self.environment(names)), ROOT)
            self._started.append(server)
            server.wait_line("Freya Push is ready")
            return server

        self.keys[number] = names
        self._replicas[number] = await to_thread.run_sync(started)

    async def stop(self, number: int) -> None:
        """Takes a replica from the balancer, and ends it as a deployment does."""
        replica, self._replicas[number] = self._replicas[number], None
        assert replica is not None
        self.refused += await _refusals(replica)
        await to_thread.run_sync(replica.end)

    async def roll(self, names: tuple[str, ...]) -> AsyncGenerator[None]:
        """Gives every replica these keys, one at a time; yields after each."""
        for number in range(len(self._replicas)):
            await self.stop(number)
            await self.start(number, names)
            yield

    def close(self) -> None:
        """Leaves nothing behind."""
        for server in self._started:
            server.close()

    async def check(self) -> None:
        """Whatever either replica signs the other believes, and what it seals the other opens."""
        for replica, names in product(self.up, self.keys):
            async with _live(replica.url, self.token(ALICE, names[0])) as feed:
                assert _word(feed.state) == "hush"
        for writer, reader in permutations(self.up):
            self.words += 1
            word = f"word {self.words}"
            token = self.token(BOB, self.issuer)
            async with _live(reader.url, token) as there, _live(writer.url, token, own=False) as here:
                given = {"sourceId": VAULT, "enabled": True, "credentials": {"word": word}}
                await here.call("source.put", given)
                with fail_after(PATIENCE_S):
                    async for state in there:
                        if _word(state) == word:
                            break


@asynccontextmanager
async def _live(url: str, token: str, *, own: bool = True) -> AsyncGenerator[LiveFeed]:
    async with connect(url, token, own=own) as feed:
        with fail_after(PATIENCE_S):
            await feed.wait_status(Status.LIVE)
            while own and feed.state is not None and VAULT in feed.state.pending:
                await anext(aiter(feed))
        yield feed


def _word(state: FeedState | None) -> str | None:
    """What the source shows, read the right way round."""
    for item in () if state is None else state.items:
        if item.source_id == VAULT:
            text: Any = item.data["backwards"]
            return text[::-1]
    return None


async def _refusals(replica: Server) -> list[str]:
    """The metrics that count tokens which were not believed."""
    async with httpx.AsyncClient() as client:
        page = await client.get(f"http://{replica.place}/metrics", timeout=PATIENCE_S)
    return re.findall(r'^freya_(?:refused|closed)_total\{\w+="44\d\d"\} .*', page.text, re.MULTILINE)


async def _store_old_credentials(url: str) -> None:
    """Alice's, and those of many others."""
    ring = KeyRing.parse(CREDENTIALS["old"])
    async with Database.open(url, pool_size=2) as database:
        for user in (ALICE, *(UserId(f"user-{number}") for number in range(OTHERS))):
            sealed = ring.encrypt(user, VAULT, {"word": "hush"})
            async with database.write(user) as tx:
                await source_configs.put(tx, user, VAULT, True, {}, sealed)


async def _sealed_with(url: str) -> set[str | None]:
    async with Database.open(url, pool_size=2) as database:
        rows = await database.fetch(
            "SELECT credentials FROM user_source_config WHERE credentials IS NOT NULL"
        )
    return {key_id_of(blob) for (blob,) in rows}


def _rotate_with_an_interruption(settings: dict[str, str]) -> list[int]:
    """`rotate-keys`, killed in the middle and run again; how many rows it said were left, line by line."""
    with running("rotate-keys", "--batch", "1", settings=settings) as first:
        first.wait_line(r"^[1-9]\d* sealed anew")
        first.end(signal.SIGKILL)
    with running("rotate-keys", "--batch", "10", settings=settings) as second:
        assert second.wait_end() == 0
        second.wait_line("every row is sealed with the first key")
    lines = [line for program in (first, second) for line in program.lines if "sealed anew" in line]
    return [int(found[1]) if (found := re.search(r"left: (\d+) under old", line)) else 0 for line in lines]


@pytest.fixture
async def deployment(
    postgres: PostgresServer, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> AsyncGenerator[Deployment]:
    deployment = Deployment(database_url, redis_server, tmp_path)
    try:
        await _store_old_credentials(database_url)
        for number in range(2):
            await deployment.start(number, ("old",))
        yield deployment
    finally:
        await to_thread.run_sync(deployment.close)


@pytest.mark.timeout(300)
async def test_keys_are_changed_on_two_replicas_and_a_client_is_never_refused(
    deployment: Deployment, database_url: str
) -> None:
    words: list[str | None] = []

    async def follow(feed: LiveFeed) -> None:
        async for state in feed:
            if VAULT not in state.pending or words:
                words.append(_word(state))
            assert [error for error in state.errors if error.source_id == VAULT] == []

    async with (
        open_proxy(deployment.any_port) as balancer,
        connect(f"ws://127.0.0.1:{balancer.port}", deployment.issue) as feed,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(follow, feed)
        with fail_after(PATIENCE_S):
            await feed.wait_status(Status.LIVE)
        await deployment.check()

        async for _ in deployment.roll(("old", "new")):
            await deployment.check()

        deployment.issuer = "new"
        async for _ in deployment.roll(("new", "old")):
            await deployment.check()
        with fail_after(PATIENCE_S):
            while deployment.issued["new"] < 3:  # noqa: ASYNC110 -- the one before the last is in force
                await anyio.sleep(0.05)
        settings = deployment.environment(("new", "old"))
        left = await to_thread.run_sync(_rotate_with_an_interruption, settings)
        assert left[0] > 0
        assert left == sorted(left, reverse=True)
        assert left[-1] == 0
        assert await _sealed_with(database_url) == {"new"}

        async for _ in deployment.roll(("new",)):
            await deployment.check()
        with fail_after(PATIENCE_S):
            await feed.wait_status(Status.LIVE)
        tasks.cancel_scope.cancel()

    for number in range(2):
        await deployment.stop(number)
    assert deployment.refused == []
    assert words
    assert set(words) == {"hush"}
    assert deployment.issued["old"] > 0
