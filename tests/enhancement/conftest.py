"""Replicas with the LLM pass: real managers on a real database, the real client, an endpoint on loopback."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
import pytest
from anyio.abc import TaskGroup
from pydantic import BaseModel

from protocol.feed import FeedItem, Slot
from protocol.ids import ReplicaId, SourceId, UserId
from server.engine.clock import SystemClock
from server.engine.context import Context
from server.engine.processors import PostProcessor
from server.engine.source import FeedSource
from server.enhancement.enhancer import Enhancer
from server.enhancement.model import ChatModel
from server.enhancement.options import EnhancementOptions
from server.replication import MemoryBus, MemoryHub
from server.session.history import Revision
from server.session.items import ItemWrites
from server.session.listeners import CloseReason
from server.session.manager import SessionManager
from server.session.patches import SourceWrites
from server.session.setup import SessionSetup
from server.session.user_session import UserSession
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.registry import ProviderRegistry
from server.sources.services import Services
from server.sources.user import UserProvider
from storage.credentials import KeyRing
from storage.database import Database
from storage.source_configs import DefaultRow
from tests.enhancement.items import INSIGHT, NOW, answer_text
from tests.support.web import Asked, Reply, Web, json_reply, open_web

ALICE = UserId("alice")
DEADLINE_S = 20.0
QUICK = EnhancementOptions(debounce_s=0.05, min_interval_s=0.05, breaker_s=0.05)


class DiaryConfig(ConfigModel):
    titles: tuple[str, ...] = ("Stand-up",)


class Diary(FeedSource):
    """Events with an open slot each."""

    id = "test.diary"

    def __init__(self, config: DiaryConfig) -> None:
        self.titles: Sequence[str] = config.titles

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        return self.events()

    def events(self) -> list[FeedItem]:
        return [
            self.item(
                str(number),
                type="event",
                timestamp=NOW,
                data={"title": title},
                slots={"insight": Slot(INSIGHT, None)},
            )
            for number, title in enumerate(self.titles)
        ]

    def retitle(self, *titles: str) -> None:
        self.titles = titles
        self.handle.push_items(self.events())


class DiaryProvider(FeedProvider[DiaryConfig]):
    source_id = SourceId("test.diary")
    name = "Diary"
    config_schema = DiaryConfig
    default_row = True

    async def source_for_user(
        self, user: UserId, config: DiaryConfig, credentials: BaseModel | None, services: Services
    ) -> Diary:
        return Diary(config)


def completion(content: str) -> Reply:
    message = {"role": "assistant", "content": content}
    answer = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return json_reply(orjson.dumps(answer))


async def eventually(condition: Callable[[], bool]) -> None:
    """Looks until it is so; fails where it does not come to be."""
    for _ in range(int(DEADLINE_S * 100)):
        if condition():
            return
        await anyio.sleep(0.01)
    raise AssertionError("it did not come to be")


@dataclass
class Endpoint:
    """A model that fills every slot with its item's title, unless it is told otherwise."""

    web: Web | None = None
    hold: anyio.Event | None = None
    reply: Callable[[dict[str, Any]], Reply] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def answer(self, asked: Asked) -> Reply:
        document = orjson.loads(orjson.loads(asked.body)["messages"][1]["content"].split("\n")[1])
        self.asked.append(document)
        if self.hold is not None:
            await self.hold.wait()
        if self.reply is not None:
            return self.reply(document)
        return completion(
            answer_text({item["id"]: dict.fromkeys(item["slots"], about(item)) for item in document["fill"]})
        )


def about(item: dict[str, Any]) -> str:
    return f"about {item['data']['title']}"


class Listener:
    """Follows one session, and can wait for what it shows."""

    def __init__(self, session: UserSession) -> None:
        self.session = session
        self.revisions: list[Revision] = [session.history.current]
        self._turn = anyio.Event()
        session.attach(self)
        session.listen()

    def on_revision(self, session: UserSession) -> None:
        self.revisions.append(session.history.current)
        self._wake()

    def on_source_changed(self, session: UserSession, source_state: object) -> None:
        """Nothing of it is looked at here."""

    def on_closed(self, session: UserSession, reason: CloseReason) -> None:
        self._wake()

    def _wake(self) -> None:
        self._turn.set()
        self._turn = anyio.Event()

    def fills(self) -> list[str | None]:
        return [slot.content for item in self.items() for slot in (item.slots or {}).values()]

    def items(self) -> tuple[FeedItem, ...]:
        return self.session.history.current.state.items

    async def until(self, condition: Callable[[Listener], bool]) -> None:
        with anyio.fail_after(DEADLINE_S):
            while not condition(self):
                await self._turn.wait()


@dataclass
class Replica:
    manager: SessionManager
    enhancer: Enhancer
    database: Database

    def __post_init__(self) -> None:
        self.sources = SourceWrites(self.manager)
        self.items = ItemWrites(self.manager, lambda feeds: dict.fromkeys(feeds, 0))

    async def follow(self, user: UserId = ALICE) -> Listener:
        return Listener(await self.manager.get_or_create(user))


@dataclass
class World:
    url: str
    stack: AsyncExitStack
    group: TaskGroup
    endpoint: Endpoint
    hub: MemoryHub = field(default_factory=MemoryHub)
    replicas: list[Replica] = field(default_factory=list[Replica])

    async def replica(
        self, options: EnhancementOptions = QUICK, processors: Sequence[PostProcessor] = ()
    ) -> Replica:
        assert self.endpoint.web is not None
        clock = SystemClock()
        database = await self.stack.enter_async_context(Database.open(self.url, pool_size=4))
        model = await self.stack.enter_async_context(
            ChatModel(
                base_url=f"{self.endpoint.web.url}/v1",
                api_key="sk",
                model="m",
                clock=clock,
                retry_wait_s=0.01,
            )
        )
        enhancer = Enhancer(
            model,
            database=database,
            clock=clock,
            group=self.group,
            replica=ReplicaId(f"r{len(self.replicas)}"),
            options=options,
        )
        registry = ProviderRegistry([UserProvider(), DiaryProvider()])
        setup = SessionSetup(
            database=database,
            bus=MemoryBus(self.hub),
            clock=clock,
            registry=registry,
            keys=KeyRing.empty(),
            services=lambda writes: Services(clock=clock, writes=writes),
            defaults=[
                DefaultRow(row.source_id, row.enabled, dict(row.config))
                for row in registry.defaults(["freya.user", "test.diary"])
            ],
            processors=processors,
            overlay=enhancer.overlay,
        )
        manager = await self.stack.enter_async_context(SessionManager.open(setup))
        enhancer.bind(manager)
        replica = Replica(manager, enhancer, database)
        self.replicas.append(replica)
        return replica


@pytest.fixture
async def world(database_url: str) -> AsyncGenerator[World]:
    endpoint = Endpoint()
    async with anyio.create_task_group() as group, AsyncExitStack() as stack:
        endpoint.web = await stack.enter_async_context(open_web(endpoint.answer))
        yield World(database_url, stack, group, endpoint)
