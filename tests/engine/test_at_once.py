"""Sources that never wait: asked and answered in one step, without a task."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from protocol.feed import ContextEntry, FeedItem
from server.engine import Context, FeedSource, TaskScope, Unreachable
from server.engine.tasks import Waited, finish_at_once
from tests.engine.conftest import Feed
from tests.engine.sources import Contextual, Fetching
from tests.support.clock import START


class AtOnce(FeedSource):
    """Says what it is told to say."""

    answers_at_once = True
    refresh_every_s = 0

    def __init__(self, name: str, *uses: str, value: int = 1) -> None:
        self.id = name
        self.uses = uses
        self.value = value
        self.asked = 0

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        return [self.entry("value", value=self.value)]

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        self.asked += 1
        seen = [entry.value for name in self.uses for entry in ctx.find((name,))]
        return [self.item("1", type="t", timestamp=START, data={"value": self.value, "seen": seen})]


class Failing(AtOnce):
    """Cannot answer, for a while."""

    gone = True

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        if self.gone:
            raise Unreachable("gone")
        return await super().fetch_items(ctx)


class Waiting(AtOnce):
    """Says that it does not wait."""

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        while True:
            try:
                await anyio.lowlevel.checkpoint()
            except Waited:
                self.asked += 1
                if self.asked == 1:
                    raise


class Stubborn(Waiting):
    """Nor does it take no for an answer."""

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        while True:
            try:
                await anyio.lowlevel.checkpoint()
            except Waited:
                self.asked += 1


async def test_it_has_answered_when_it_is_in_the_feed(feed: Feed, scope: TaskScope) -> None:
    feed.engine.add(AtOnce("a.one", value=7))
    assert feed.engine.state.pending == ()
    assert feed.values == {"a.one/1": 7}
    assert scope.count == 0


async def test_those_that_are_added_in_one_step_answer_in_it_and_are_one_change(feed: Feed) -> None:
    one, other = AtOnce("a.one", value=7), AtOnce("a.other", "a.one")
    with feed.engine.step():
        feed.engine.add(one)
        feed.engine.add(other)
        assert not one.asked
    assert [item.data.get("seen") for item in feed.items] == [[], [7]]
    assert other.asked == 1, "it was asked about the context that it reads"
    assert len(feed.states) == 1


async def test_one_that_reads_it_is_asked_again_when_it_says_something_else(feed: Feed) -> None:
    one, other = AtOnce("a.one", value=1), AtOnce("a.other", "a.one")
    feed.engine.add(one)
    feed.engine.add(other)
    one.handle.push_context([one.entry("value", value=2)])
    await feed.clock.advance(1.0)
    assert feed.items[1].data["seen"] == [2]


async def test_it_waits_for_the_context_of_one_that_takes_its_time(feed: Feed) -> None:
    slow, quick = Contextual("a.slow"), AtOnce("a.quick", "a.slow")
    with feed.engine.step():
        feed.engine.add(slow)
        feed.engine.add(quick)
    assert not quick.asked
    await feed.clock.settle()
    slow.context_calls[0].answer([slow.entry("value", value=3)])
    await feed.clock.settle()
    assert quick.asked == 1
    assert feed.items[0].data["seen"] == [3]


async def test_a_refresh_has_asked_it_when_it_returns(feed: Feed) -> None:
    one = AtOnce("a.one")
    feed.engine.add(one)
    one.value = 2
    await feed.engine.refresh()
    assert feed.values == {"a.one/1": 2}
    assert one.asked == 2


async def test_its_failure_is_shown_and_tried_again(feed: Feed) -> None:
    source = Failing("a.one")
    feed.engine.add(source)
    assert feed.is_("a.one") == "failing"
    assert [error.message for error in feed.engine.state.errors] == ["gone"]
    source.gone = False
    feed.engine.set_listening(True)
    await feed.clock.advance(10.0)
    assert feed.is_("a.one") == "active"


@pytest.mark.parametrize("kind", [Waiting, Stubborn])
async def test_one_that_waits_all_the_same_has_failed(
    feed: Feed, scope: TaskScope, kind: type[AtOnce]
) -> None:
    beside = Fetching("a.beside")
    with feed.engine.step():
        feed.engine.add(kind("a.one"))
        feed.engine.add(beside)
    assert [error.code for error in feed.engine.state.errors] == ["internal"]
    assert feed.engine.state.pending == ("a.beside",)
    await feed.clock.settle()
    assert beside.in_flight == 1


def test_a_coroutine_that_ends_at_once_gives_its_result_or_raises() -> None:
    async def seven() -> int:
        return 7

    async def never() -> int:
        raise Unreachable("gone")

    assert finish_at_once(seven()) == 7
    with pytest.raises(Unreachable):
        finish_at_once(never())


async def test_one_that_waits_is_told_so_where_it_waits() -> None:
    told: list[BaseException] = []

    async def waiting() -> int:
        try:
            await anyio.lowlevel.checkpoint()
        except Waited as raised:
            told.append(raised)
            return 3
        return 4

    assert finish_at_once(waiting()) == 3
    assert told
