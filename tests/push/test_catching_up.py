"""A replica that has read a write shows it, or lets whoever comes back wait a moment until it does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
from pydantic import BaseModel, Field

from protocol.feed import FeedItem
from protocol.ids import SourceId, UserId
from server.engine.context import Context
from server.engine.source import FeedSource
from server.push import PushOptions
from server.replication import MemoryHub
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services
from tests.push.conftest import ALICE, World
from tests.push.peers import Follower, open_peer

PATIENT = PushOptions(resume_wait_s=30.0)
TITLED = SourceId("test.titled")


class TitledConfig(ConfigModel):
    title: str = Field("old", max_length=100)


class _TitledSource(FeedSource):
    id = TITLED
    refresh_every_s = 0.0

    def __init__(self, title: str, gate: anyio.Event) -> None:
        self._title = title
        self._gate = gate

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        await self._gate.wait()
        at = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
        return [self.item("title", type="note", timestamp=at, data={"text": self._title})]


class Titled(FeedProvider[TitledConfig]):
    """Shows its title. Building and answering wait for gates, which stand open at first."""

    source_id = TITLED
    name = "Titled"
    config_schema = TitledConfig
    default_row = True

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.may_build = anyio.Event()
        self.may_answer = anyio.Event()
        self.may_build.set()
        self.may_answer.set()

    def close(self) -> None:
        """From now on both wait."""
        self.asked, self.may_build, self.may_answer = anyio.Event(), anyio.Event(), anyio.Event()

    async def open_in_turn(self) -> None:
        """Lets it build once it is asked to, and answer once everybody waits for that."""
        await self.asked.wait()
        await anyio.wait_all_tasks_blocked()
        self.may_build.set()
        await anyio.wait_all_tasks_blocked()
        self.may_answer.set()

    async def source_for_user(
        self, user: UserId, config: TitledConfig, credentials: BaseModel | None, services: Services
    ) -> FeedSource:
        self.asked.set()
        await self.may_build.wait()
        return _TitledSource(config.title, self.may_answer)


async def _shown(follower: Follower, text: str) -> None:
    while follower.texts() != [text]:
        await follower.step()


async def test_who_saw_a_write_elsewhere_is_not_shown_what_was_before_it_while_its_source_is_made_anew(
    world: World,
) -> None:
    slow = Titled()
    first, second = await world.start(Titled()), await world.start(slow, hub=MemoryHub(), options=PATIENT)
    async with open_peer(second.address, second.token()) as watcher:
        await _shown(Follower(watcher, ALICE), "old")
        slow.close()
        async with open_peer(first.address, first.token()) as peer:
            feed = Follower(peer, ALICE)
            await _shown(feed, "old")
            await peer.call("source.patch", {"sourceId": TITLED, "config": {"title": "new"}})
            await _shown(feed, "new")
        async with anyio.create_task_group() as group:
            group.start_soon(slow.open_in_turn)
            async with open_peer(second.address, second.token(), query=f"?since={feed.cursor}") as peer:
                # It shows what was seen there: nothing is sent again, least of all the old title.
                delta = await peer.next("feed.delta")
                assert delta["base"] == feed.cursor
                assert "put" not in delta


async def test_a_source_that_does_not_answer_keeps_nobody_waiting_for_long(world: World) -> None:
    slow = Titled()
    impatient = PushOptions(resume_wait_s=0.05)
    first, second = await world.start(Titled()), await world.start(slow, hub=MemoryHub(), options=impatient)
    async with open_peer(second.address, second.token()) as watcher:
        await _shown(Follower(watcher, ALICE), "old")
        slow.close()
        slow.may_build.set()
        async with open_peer(first.address, first.token()) as peer:
            feed = Follower(peer, ALICE)
            await _shown(feed, "old")
            await peer.call("source.patch", {"sourceId": TITLED, "config": {"title": "new"}})
            await _shown(feed, "new")
        async with open_peer(second.address, second.token(), query=f"?since={feed.cursor}") as peer:
            again = Follower(peer, ALICE)
            await again.step()
            assert again.texts() == ["old"]
            slow.may_answer.set()
            await _shown(again, "new")
