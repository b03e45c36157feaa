"""What time alone changes: it changes on time, and without asking anybody outside."""

from __future__ import annotations

from datetime import datetime, timedelta

from server.engine import Answer, Context, Unreachable
from tests.engine.conftest import Feed
from tests.engine.sources import Fetching, Pushing
from tests.support.clock import START


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Greeting(Fetching):
    """Says something else every 100 s; each answer names the next time."""

    def reconsider(self, ctx: Context) -> Answer | None:
        return self.now(ctx.time)

    def now(self, time: datetime) -> Answer:
        hundreds = int((time - START).total_seconds() // 100)
        return Answer((self.one(value=hundreds),), next_change_at=after((hundreds + 1) * 100))


async def test_an_item_is_hidden_when_it_expires_without_asking_anybody(feed: Feed) -> None:
    source = Fetching("a.source")
    source.items_script = lambda _: [source.one("1", expires_at=after(60)), source.one("2")]
    await feed.add(source)
    assert feed.engine.next_change_at == after(60)
    await feed.clock.advance(59.9)
    assert feed.ids == ["a.source/1", "a.source/2"]
    await feed.clock.advance(0.1)
    assert feed.ids == ["a.source/2"]
    assert feed.causes[-1].trigger == "timer"
    assert len(source.item_calls) == 1
    assert feed.engine.next_change_at is None


async def test_items_that_expire_one_after_another_are_hidden_each_on_time(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(str(n), expires_at=after(10 * n)) for n in range(1, 6)])
    for left in range(5, 0, -1):
        assert len(feed.ids) == left
        await feed.clock.advance(10)
    assert feed.ids == []


async def test_an_item_that_has_expired_already_is_never_shown(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(expires_at=after(0))])
    assert feed.states == [state for state in feed.states if not state.items]


async def test_an_item_reported_again_with_a_later_expiry_stays(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(expires_at=after(60))])
    source.handle.push_items([source.one(expires_at=after(120))])
    await feed.clock.advance(100)
    assert feed.ids == ["a.source/1"]
    await feed.clock.advance(20)
    assert feed.ids == []


async def test_at_its_next_change_a_source_is_reconsidered_and_not_fetched(feed: Feed) -> None:
    source = Greeting("a.greeting")
    source.items_script = lambda ctx: source.now(ctx.time)
    await feed.add(source)
    await feed.clock.advance(250)
    assert feed.values == {"a.greeting/1": 2}
    assert [cause.trigger for cause in feed.causes][-2:] == ["timer", "timer"]
    assert len(source.item_calls) == 1


async def test_without_reconsider_the_items_stay_at_the_next_change(feed: Feed) -> None:
    source = Fetching("a.source")
    source.items_script = lambda _: Answer((source.one(),), next_change_at=after(10))
    await feed.add(source)
    await feed.clock.advance(60)
    assert feed.ids == ["a.source/1"]
    assert len(source.item_calls) == 1


async def test_a_source_without_fetch_is_reconsidered_when_its_input_changes_or_it_is_refreshed(
    feed: Feed,
) -> None:
    times: list[datetime] = []

    class Local(Pushing):
        def reconsider(self, ctx: Context) -> Answer | None:
            times.append(ctx.time)
            return Answer((self.one(value=ctx.get(("a.place", "now"))),))

    place, local = Pushing("a.place"), Local("a.local", "a.place")
    await feed.add(place, local)
    place.handle.push_context([place.known("here")])
    assert feed.values == {"a.local/1": "here"}
    await feed.engine.refresh()
    local.handle.request_refresh()
    assert len(times) == 3


async def test_a_reconsider_that_raises_is_its_sources_failure(feed: Feed) -> None:
    class Broken(Pushing):
        def reconsider(self, ctx: Context) -> Answer | None:
            raise Unreachable("in a reconsider")

    source = Broken("a.broken")
    await feed.add(source)
    source.handle.push_items(Answer((source.one(),), next_change_at=after(5)))
    await feed.clock.advance(5)
    assert feed.errors == {"a.broken": "unreachable"}
    assert feed.ids == ["a.broken/1"]


async def test_a_next_change_in_the_past_does_not_spin(feed: Feed) -> None:
    class Impatient(Pushing):
        asked = 0

        def reconsider(self, ctx: Context) -> Answer | None:
            self.asked += 1
            return Answer((), next_change_at=ctx.time - timedelta(hours=1))

    source = Impatient("a.impatient")
    await feed.add(source)
    source.handle.push_items(Answer((), next_change_at=after(-1)))
    await feed.clock.advance(10)
    assert 9 <= source.asked <= 10


async def test_a_source_that_asks_for_itself_in_every_reconsider_does_not_hold_the_event_loop(
    feed: Feed,
) -> None:
    class Selfish(Pushing):
        asked = 0

        def reconsider(self, ctx: Context) -> Answer | None:
            self.asked += 1
            self.handle.request_refresh()
            return None

    source = Selfish("a.selfish")
    await feed.add(source)
    source.handle.request_refresh()
    assert source.asked == 1
    await feed.clock.advance(1)
    assert 5 <= source.asked <= 12


async def test_an_engine_has_at_most_one_timer(feed: Feed) -> None:
    timers: list[object] = []
    real = feed.clock.call_later

    def call_later(delay_s: float, fn: object) -> object:
        handle = real(delay_s, fn)  # pyright: ignore[reportArgumentType] -- passed on as it came
        timers.append(handle)
        return handle

    feed.clock.call_later = call_later  # pyright: ignore[reportAttributeAccessIssue] -- watches the test's own clock
    sources = [Fetching(f"a.s{n}") for n in range(8)]
    for n, source in enumerate(sources):
        source.items_script = lambda _, s=source, at=n: Answer(
            (s.one(expires_at=after(1000 + at)),), next_change_at=after(500 - at)
        )
    await feed.add(*sources)
    await feed.clock.advance(60)
    now = feed.clock.monotonic()
    waiting = [t for t in timers if not t.cancelled() and t.when() > now]  # pyright: ignore -- asyncio's handles
    assert len(waiting) == 1


async def test_the_times_of_a_run_are_the_injected_clocks(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.clock.advance(42)
    await feed.add(source)
    assert source.item_calls[0].ctx.time == after(42)
    assert source.item_calls[0].ctx.time.utcoffset() == timedelta(0)


async def test_a_wall_clock_that_is_set_forward_is_noticed_within_the_hour(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(expires_at=after(86_400))])
    feed.clock.shift_wall(86_400)
    await feed.clock.advance(3600)
    assert feed.ids == []


async def test_nothing_is_asked_and_no_timer_runs_for_a_feed_that_time_does_not_change(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one()])
    await feed.clock.advance(86_400)
    assert feed.engine.statistics().wakes == 0


async def test_told_that_the_wall_clock_was_set_a_feed_looks_at_once_if_time_changes_it(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one()])
    feed.engine.wall_clock_set(1.0)
    await feed.clock.advance(10)
    assert feed.engine.statistics().wakes == 0
    source.handle.push_items([source.one(expires_at=after(86_400))])
    feed.clock.shift_wall(86_400)
    feed.engine.wall_clock_set(1.0)
    await feed.clock.advance(1.0)
    assert feed.ids == []
    assert feed.engine.statistics().wakes == 1
