"""The end of an engine: nothing comes after it, and nothing stays."""

from __future__ import annotations

import anyio

from server.engine import Processed, TaskScope
from tests.engine.conftest import Feed, MakeFeed
from tests.engine.sources import Both, Fetching, Pushing
from tests.support.clock import TestClock


class HangsOnClose(Pushing):
    async def aclose(self) -> None:
        await super().aclose()
        await anyio.sleep_forever()


class RaisesOnClose(Pushing):
    async def aclose(self) -> None:
        await super().aclose()
        raise ValueError("hunter2")


class Deaf(Fetching):
    """Takes its time when it is cancelled."""

    async def fetch_items(self, ctx: object) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)


async def test_nothing_is_shown_told_or_asked_after_aclose_even_with_a_fetch_in_flight(feed: Feed) -> None:
    source, pushing = Both("a.source"), Pushing("a.pushing")
    await feed.add(source, pushing)
    await feed.engine.aclose()
    states, state = len(feed.states), feed.engine.state
    source.context_calls[0].answer([source.known(1)])
    pushing.handle.push_items([pushing.one()])
    await feed.clock.advance(3600)
    assert source.context_calls[0].cancelled
    assert source.item_calls == []
    assert len(feed.states) == states
    assert feed.engine.state is state


async def test_after_aclose_no_task_and_no_timer_is_left(
    feed: Feed, scope: TaskScope, clock: TestClock
) -> None:
    await feed.add(Fetching("a.one"), Fetching("a.two").showing(), Pushing("a.three"))
    await clock.advance(60)
    await feed.engine.aclose()
    assert scope.count == 0
    wakes = feed.engine.statistics().wakes
    await clock.advance(86_400)
    assert feed.engine.statistics().wakes == wakes


async def test_each_source_is_closed_once_however_it_went(feed: Feed) -> None:
    removed, swapped, last, turned_away = (Fetching("a.removed"), *(Fetching("a.s") for _ in range(3)))
    await feed.add(removed, swapped)
    feed.remove("a.removed")
    feed.swap(last)
    await feed.engine.aclose()
    feed.swap(turned_away)
    await feed.engine.aclose()
    await feed.clock.settle()
    assert [source.closed for source in (removed, swapped, last, turned_away)] == [1, 1, 1, 1]


async def test_a_close_that_raises_or_hangs_does_not_stop_the_others(feed: Feed) -> None:
    sources = [HangsOnClose("a.hangs"), RaisesOnClose("a.raises"), Pushing("a.well")]
    await feed.add(*sources)
    done = anyio.Event()

    async def close() -> None:
        await feed.engine.aclose()
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        await feed.clock.advance(4.9)
        assert [source.closed for source in sources] == [1, 1, 1]
        assert not done.is_set()
        await feed.clock.advance(0.2)
        assert done.is_set()


async def test_a_source_is_closed_only_when_its_last_call_has_ended(feed: Feed) -> None:
    source = Deaf("a.deaf")
    await feed.add(source)
    feed.remove("a.deaf")
    await feed.clock.advance(2)
    assert source.closed == 0
    await feed.clock.advance(2)
    assert source.closed == 1


async def test_a_swap_does_not_wait_for_the_old_one_to_close(feed: Feed) -> None:
    await feed.add(HangsOnClose("a.source"))
    feed.swap(Fetching("a.source").showing())
    await feed.clock.settle()
    assert feed.ids == ["a.source/1"]


async def test_an_aclose_that_is_cancelled_closes_the_sources_all_the_same(feed: Feed) -> None:
    slow, well = HangsOnClose("a.slow"), Pushing("a.well")
    await feed.add(slow, well)
    async with anyio.create_task_group() as group:
        group.start_soon(feed.engine.aclose)
        await feed.clock.settle()
        group.cancel_scope.cancel()
    assert (slow.closed, well.closed) == (1, 1)
    well.handle.push_items([well.one()])
    assert feed.ids == []


async def test_a_close_is_not_cut_short_by_the_end_of_the_tasks(
    feed: Feed, scope: TaskScope, clock: TestClock
) -> None:
    class Slow(Pushing):
        async def aclose(self) -> None:
            await anyio.sleep(2)
            await super().aclose()

    source = Slow("a.slow")
    await feed.add(source)
    feed.remove("a.slow")
    await clock.settle()
    async with anyio.create_task_group() as group:
        group.start_soon(scope.aclose)
        await clock.advance(3)
    assert source.closed == 1


async def test_closing_from_within_a_change_is_safe(make_feed: MakeFeed, scope: TaskScope) -> None:
    feed = make_feed(on_change=lambda _: scope.start(feed.engine.aclose) and None)
    source, other = Fetching("a.source").showing(), Fetching("a.other")
    await feed.add(source, other)
    await feed.clock.settle()
    assert (source.closed, other.closed) == (1, 1)


async def test_a_scope_that_ends_first_takes_the_calls_with_it(feed: Feed, scope: TaskScope) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    async with anyio.create_task_group() as group:
        group.start_soon(feed.engine.refresh)
        await feed.clock.settle()
        await scope.aclose()
        await feed.engine.aclose()
    assert source.item_calls[0].cancelled
    assert source.closed == 1
    assert scope.count == 0


async def test_listening_removing_and_failing_after_the_end_do_nothing(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    await feed.engine.aclose()
    feed.engine.set_listening(False)
    feed.engine.set_listening(True)
    feed.remove("a.source")
    assert source.closed == 1


async def test_an_engine_that_ends_in_the_middle_of_a_post_processor_shows_nothing_more(
    make_feed: MakeFeed, scope: TaskScope
) -> None:
    class Slow:
        name = "p.slow"

        async def __call__(self, items: object, ctx: object) -> Processed:
            await anyio.sleep(1)
            return Processed()

    feed = make_feed(processors=[Slow()])
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one()])
    await feed.engine.aclose()
    await feed.clock.advance(5)
    assert feed.states == []
    assert scope.count == 0


async def test_a_refresh_that_is_cancelled_leaves_the_calls_to_go_on(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    async with anyio.create_task_group() as group:
        group.start_soon(feed.engine.refresh)
        await feed.clock.settle()
        group.cancel_scope.cancel()
    source.item_calls[0].answer([source.one()])
    await feed.clock.settle()
    assert feed.ids == ["a.source/1"]
