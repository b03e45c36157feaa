"""A foreign source, inside a real server, does what it must not: the server and all others live on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx
import orjson
import pytest
from anyio import fail_after, to_thread

from protocol.client import LiveFeed, Status, connect
from protocol.errors import ActionFailed
from protocol.ids import UserId
from protocol.transport import SUBPROTOCOL
from server.tokens import TokenKeys, generate, mint
from storage.credentials import generate_key
from storage.migrate import migrate
from tests.support.databases import Databases
from tests.support.plugins import installed
from tests.support.postgres import PostgresServer
from tests.support.programs import Server, serving

ALICE, BOB = UserId("alice"), UserId("bob")
WILD = "com.example.wild"
KEYS = generate("HS256", "test")
PATIENCE_S = 60.0
MARK_MIB = 320

SOURCE = """
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from server.engine.source import ActionSpec, FeedSource
from server.sources.provider import ConfigModel, FeedProvider

HELD = []


class Config(ConfigModel):
    does: str = "nothing"
    until: str = ""


class Wild(BaseException):
    pass


def misbehave(config):
    match config.does:
        case "exit":
            sys.exit(3)
        case "raise":
            raise Wild("hunter2")
        case "block":
            while not Path(config.until).exists():
                time.sleep(0.01)
        case "leak":
            HELD.append(bytearray(b"x") * (400 << 20))
        case "let go":
            HELD.clear()


class WildSource(FeedSource):
    id = "com.example.wild"

    def __init__(self, config):
        self.config = config

    async def fetch_items(self, ctx):
        misbehave(self.config)
        return [self.item("1", type="text", timestamp=ctx.time, data={"does": self.config.does})]

    def actions(self):
        if self.config.does in ("exit", "raise"):
            misbehave(self.config)
        return [ActionSpec("act", "Act")]

    async def execute_action(self, action_id, params):
        raise SystemExit("from an action")

    def dismiss_key(self, item):
        raise Wild("hunter2")

    async def aclose(self):
        if self.config.does in ("exit", "raise"):
            misbehave(self.config)


class WildProvider(FeedProvider[Config]):
    source_id = "com.example.wild"
    name = "Wild"
    config_schema = Config

    async def source_for_user(self, user, config, credentials, services):
        if config.until == "build":
            misbehave(config)
        return WildSource(config)

    async def aclose(self):
        sys.exit(4)
"""


@dataclass
class House:
    """A server with the wild source, and who is connected to it."""

    server: Server

    def token(self, user: UserId) -> str:
        scopes = ("item:publish",)
        return mint(TokenKeys.parse(KEYS), user, now=datetime.now(UTC), ttl_s=3600.0, scopes=scopes)

    @asynccontextmanager
    async def at_home(self, user: UserId) -> AsyncGenerator[LiveFeed]:
        async with connect(self.server.url, self.token(user), call_timeout_s=PATIENCE_S) as feed:
            with fail_after(PATIENCE_S):
                await feed.wait_status(Status.LIVE)
            yield feed

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://{self.server.place}{path}", headers=headers, timeout=PATIENCE_S)

    async def does(self, feed: LiveFeed, what: str, until: str = "") -> None:
        """Has the user's wild source set up so, which does it with its first call."""
        await feed.put_source(WILD, config={"does": what, "until": until})

    async def lives(self, feed: LiveFeed, user: UserId, text: str) -> None:
        """What is published to the user comes."""
        await feed.publish(user, [{"id": text, "type": "note", "data": {"text": text}}])
        with fail_after(PATIENCE_S):
            async for state in feed:
                if any(item.data.get("text") == text for item in state.items):
                    return


@pytest.fixture(scope="module")
def house(
    postgres_cluster: PostgresServer, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Generator[House]:
    """One for all: each test leaves it well, or shows that it is not."""
    name = databases.create(databases.template("migrated", migrate))
    settings = {
        "DATABASE_URL": postgres_cluster.dsn(name),
        "FREYA_JWT_KEYS": KEYS,
        "FREYA_CREDENTIAL_KEYS": generate_key("test"),
        "FREYA_MEMORY_HIGH_MIB": str(MARK_MIB),
        **installed(tmp_path_factory.mktemp("installed"), "wild", "WildProvider", SOURCE),
    }
    with serving(settings=settings) as server:
        yield House(server)
        assert server.end() == 0, "a provider that exits while it is closed does not change the end"
    databases.drop(name)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    with fail_after(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 -- it is another process that changes
            await anyio.sleep(0.05)


def _failing(feed: LiveFeed) -> bool:
    return feed.state is not None and any(error.source_id == WILD for error in feed.state.errors)


@pytest.mark.timeout(200)
async def test_a_source_that_ends_the_program_or_raises_what_is_no_exception_costs_only_itself(
    house: House,
) -> None:
    async with house.at_home(ALICE) as alice, house.at_home(BOB) as bob:
        for what in ("exit", "raise"):
            for where in ("", "build"):
                await house.does(alice, what, where)
                with fail_after(PATIENCE_S):
                    async for _ in alice:
                        if _failing(alice):
                            break
                assert "hunter2" not in str(alice.state)
                await house.lives(alice, ALICE, f"{what} {where}")
                await house.lives(bob, BOB, f"{what} {where}")
                await house.does(alice, "nothing")
                with fail_after(PATIENCE_S):
                    async for _ in alice:
                        if not _failing(alice):
                            break
        with pytest.raises(ActionFailed):
            await alice.execute(WILD, "act")
        await alice.dismiss(f"{WILD}/1")
        await house.lives(alice, ALICE, "after all")


@pytest.mark.timeout(200)
async def test_a_source_that_blocks_the_loop_is_named_with_its_stack_and_others_go_on_afterwards(
    house: House, tmp_path: Path
) -> None:
    flag = tmp_path / "enough"
    async with house.at_home(ALICE) as alice, house.at_home(BOB) as bob, anyio.create_task_group() as group:
        group.start_soon(house.does, alice, "block", str(flag))
        # A busy machine may hold up the loop for reasons of its own.
        line_of_it = '.*"event":"loop_blocked".*"task":"ask com.example.wild".*'
        found = await to_thread.run_sync(house.server.wait_line, line_of_it)
        flag.touch()
        line = orjson.loads(found[0])
        assert "wild.py" in line["stack"]
        assert "in misbehave" in line["stack"]
        await house.lives(bob, BOB, "bob goes on")
        await house.lives(alice, ALICE, "alice too")
        page = (await house.get("/metrics")).text
        (count,) = [
            each.split()[1] for each in page.splitlines() if each.startswith("freya_loop_blocked_total")
        ]
        assert float(count) >= 1


@pytest.mark.timeout(200)
async def test_a_source_that_leaks_costs_newcomers_their_place_and_nobody_who_is_there(house: House) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": SUBPROTOCOL,
        "Authorization": f"Bearer {house.token(UserId('newcomer'))}",
    }
    answers: list[httpx.Response] = []

    async def put_off() -> bool:
        answers.append(await house.get("/v1/feed", **upgrade))
        return answers[-1].status_code == 503

    async with house.at_home(ALICE) as alice, house.at_home(BOB) as bob:
        await house.does(alice, "leak")
        await _until(put_off)
        assert int(answers[-1].headers["Retry-After"]) > 0
        await house.lives(bob, BOB, "bob stays")
        await house.lives(alice, ALICE, "alice too")
        await house.does(alice, "let go")

        async def welcome_again() -> bool:
            return (await house.get("/v1/feed", **upgrade)).status_code == 101

        await _until(welcome_again)
