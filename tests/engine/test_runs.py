"""How sources are asked: together, once at a time, with patience that ends, again when there is reason to."""

from __future__ import annotations

from asyncio import CancelledError, TimerHandle
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import anyio
import pytest

from server.engine import (
    BadAnswer,
    ConfigProblem,
    RateLimited,
    SourceFailure,
    TaskScope,
    Unauthorized,
    Unreachable,
)
from tests.engine.conftest import Feed, MakeFeed
from tests.engine.sources import Both, Contextual, Fetching, Pushing, Source
from tests.support.clock import TestClock


async def test_independent_sources_are_asked_at_the_same_time(feed: Feed) -> None:
    one, other = Fetching("a.one"), Fetching("a.other")
    await feed.add(one, other)
    assert (one.in_flight, other.in_flight) == (1, 1)


async def test_each_answer_is_shown_at_once_whoever_is_still_to_answer(feed: Feed) -> None:
    slow, quick = Fetching("a.slow"), Fetching("a.quick")
    await feed.add(slow, quick)
    assert feed.engine.state.pending == ("a.slow", "a.quick")
    quick.item_calls[0].answer([quick.one(value=1)])
    await feed.clock.settle()
    assert feed.values == {"a.quick/1": 1}
    assert feed.engine.state.pending == ("a.slow",)
    slow.item_calls[0].answer([slow.one(value=2)])
    await feed.clock.settle()
    assert feed.values == {"a.slow/1": 2, "a.quick/1": 1}
    assert feed.engine.state.pending == ()


async def test_a_source_is_not_asked_for_what_it_cannot_give(feed: Feed, scope: TaskScope) -> None:
    await feed.add(Pushing("a.pushing"))
    assert scope.count == 0
    assert feed.engine.statistics().runs == 0
    assert feed.is_("a.pushing") == "active"
    assert feed.engine.state.pending == ()


async def test_items_are_asked_for_with_the_sources_own_new_context(feed: Feed) -> None:
    source = Both("a.both").knowing(7)
    await feed.add(source)
    assert source.item_calls[0].ctx.get(("a.both", "now")) == 7


async def test_the_context_is_shown_before_the_items_are_there(feed: Feed) -> None:
    source = Both("a.both").knowing(7)
    await feed.add(source)
    assert feed.known == {"a.both": 7}
    assert feed.engine.state.pending == ("a.both",)


async def test_a_dependent_is_asked_once_its_dependency_has_told_its_context(feed: Feed) -> None:
    place, weather = Contextual("a.place"), Fetching("a.weather", "a.place")
    await feed.add(place, weather)
    assert weather.item_calls == []
    place.context_calls[0].answer([place.known("here")])
    await feed.clock.settle()
    assert [call.ctx.get(("a.place", "now")) for call in weather.item_calls] == ["here"]


async def test_a_dependent_does_not_wait_for_the_items_of_its_dependency(feed: Feed) -> None:
    place, weather = Both("a.place").knowing("here"), Fetching("a.weather", "a.place").showing()
    await feed.add(place, weather)
    assert place.in_flight == 1
    assert "a.weather/1" in feed.ids


async def test_a_hung_source_delays_its_dependents_for_its_timeout_and_nobody_else(feed: Feed) -> None:
    hung, dependent = Contextual("a.hung"), Fetching("a.dependent", "a.hung").showing()
    await feed.add(hung, dependent, Fetching("a.free").showing())
    assert feed.ids == ["a.free/1"]
    await feed.clock.advance(9.9)
    assert dependent.item_calls == []
    await feed.clock.advance(0.2)
    assert hung.context_calls[0].cancelled
    assert feed.errors == {"a.hung": "unreachable"}
    assert "a.dependent/1" in feed.ids


async def test_each_call_has_its_own_timeout(feed: Feed) -> None:
    hasty, patient = Fetching("a.hasty", timeout_s=2), Fetching("a.patient", timeout_s=60)
    await feed.add(hasty, patient)
    await feed.clock.advance(2)
    assert feed.errors == {"a.hasty": "unreachable"}
    await feed.clock.advance(57.9)
    patient.item_calls[0].answer([patient.one()])
    await feed.clock.settle()
    assert feed.is_("a.patient") == "active"


async def test_the_periodic_refresh_goes_on_while_another_source_hangs(feed: Feed) -> None:
    hung, other = Fetching("a.hung", timeout_s=10_000), Fetching("a.other").showing()
    await feed.add(hung, other)
    await feed.clock.advance(1000)
    assert hung.in_flight == 1
    assert len(other.item_calls) >= 3


async def test_a_push_is_shown_at_once_while_another_source_hangs(feed: Feed) -> None:
    hung, inbox = Fetching("a.hung"), Pushing("a.inbox")
    await feed.add(hung, inbox)
    inbox.handle.push_items([inbox.one(value="new")])
    assert feed.values == {"a.inbox/1": "new"}


async def test_at_most_one_call_of_a_source_is_in_flight(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Both("a.weather", "a.place")
    await feed.add(place, weather)
    for value in range(20):
        place.handle.push_context([place.known(value)])
        weather.handle.request_refresh()
        await feed.clock.advance(0.2)
        for call in [*weather.context_calls[-1:], *weather.item_calls[-1:]]:
            call.answer([])
    await feed.clock.advance(1)
    assert weather.most_in_flight == 1


async def test_fifty_fixes_in_a_tenth_of_a_second_cost_two_calls_and_the_last_fix_shows(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place")
    weather.items_script = lambda ctx: [weather.one(value=ctx.get(("a.place", "now")))]
    place_known = Pushing("a.other")
    await feed.add(place, weather, place_known)
    await feed.clock.advance(10)
    calls_before = len(weather.item_calls)
    for fix in range(50):
        place.handle.push_context([place.known(fix)])
        await feed.clock.advance(0.002)
    await feed.clock.advance(5)
    assert len(weather.item_calls) - calls_before <= 2
    assert feed.values == {"a.weather/1": 49}


async def test_a_burst_during_a_slow_call_costs_one_more_call(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place")
    await feed.add(place, weather)
    for fix in range(50):
        place.handle.push_context([place.known(fix)])
        await feed.clock.advance(0.002)
    weather.item_calls[0].answer([weather.one(value="old")])
    await feed.clock.advance(1)
    assert feed.values == {"a.weather/1": "old"}
    assert [call.ctx.get(("a.place", "now")) for call in weather.item_calls[1:]] == [49]


async def test_an_answer_to_an_older_context_leaves_its_source_to_be_asked_again(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place")
    await feed.add(place, weather)
    place.handle.push_context([place.known("later")])
    weather.item_calls[0].answer([weather.one(value="of nowhere")])
    await feed.clock.advance(1)
    assert feed.values == {"a.weather/1": "of nowhere"}
    weather.item_calls[1].answer([weather.one(value="of there")])
    await feed.clock.advance(1)
    assert feed.values == {"a.weather/1": "of there"}
    assert len(weather.item_calls) == 2


async def test_a_context_that_came_back_to_what_it_was_asks_nobody_again(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place")
    await feed.add(place, weather)
    place.handle.push_context([place.known("there")])
    place.handle.push_context([])
    weather.item_calls[0].answer([])
    await feed.clock.advance(1)
    assert len(weather.item_calls) == 1


async def test_a_request_during_a_call_asks_once_more_after_it(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    for _ in range(3):
        source.handle.request_refresh()
    await feed.clock.advance(1)
    assert len(source.item_calls) == 1
    source.item_calls[0].answer([])
    await feed.clock.advance(1)
    assert len(source.item_calls) == 2
    source.item_calls[1].answer([])
    await feed.clock.advance(1)
    assert len(source.item_calls) == 2


async def test_a_source_that_asks_for_itself_in_every_answer_does_not_spin(feed: Feed) -> None:
    source = Fetching("a.source")

    def again(_: object) -> None:
        source.handle.request_refresh()

    source.items_script = again
    await feed.add(source)
    await feed.clock.advance(10)
    assert len(source.item_calls) <= 105


async def test_a_source_whose_input_key_equals_nothing_is_not_asked_again_for_its_own_news(
    feed: Feed,
) -> None:
    source = Both("a.source").showing()
    source.key_script = lambda _: object()
    source.context_script = lambda ctx: [source.known(len(source.context_calls))]
    await feed.add(source)
    await feed.clock.advance(10)
    assert len(source.item_calls) == 1


async def test_a_context_change_asks_only_dependents_whose_input_key_changed(feed: Feed) -> None:
    place = Pushing("a.place")
    grid, exact = Fetching("a.grid", "a.place").showing(), Fetching("a.exact", "a.place").showing()
    stranger = Fetching("a.stranger").showing()
    grid.key_script = lambda ctx: round(float(str(ctx.get(("a.place", "now")) or 0)))
    await feed.add(place, grid, exact, stranger)
    place.handle.push_context([place.known(0.1)])
    await feed.clock.advance(1)
    assert [len(source.item_calls) for source in (grid, exact, stranger)] == [1, 2, 1]
    place.handle.push_context([place.known(0.9)])
    await feed.clock.advance(1)
    assert [len(source.item_calls) for source in (grid, exact, stranger)] == [2, 3, 1]


async def test_a_change_travels_through_dependents_of_dependents(feed: Feed) -> None:
    place = Pushing("a.place")
    city = Contextual("a.city", "a.place")
    city.context_script = lambda ctx: [city.known(f"city of {ctx.get(('a.place', 'now'))}")]
    news = Fetching("a.news", "a.city")
    news.items_script = lambda ctx: [news.one(value=ctx.get(("a.city", "now")))]
    await feed.add(place, city, news)
    place.handle.push_context([place.known(5)])
    await feed.clock.advance(1)
    assert feed.values == {"a.news/1": "city of 5"}


async def test_a_dependent_of_a_dependent_is_not_asked_when_the_one_between_says_the_same(feed: Feed) -> None:
    place, city = Pushing("a.place"), Contextual("a.city", "a.place").knowing("Paris")
    news = Fetching("a.news", "a.city").showing()
    await feed.add(place, city, news)
    place.handle.push_context([place.known(5)])
    await feed.clock.advance(1)
    assert len(city.context_calls) == 2
    assert len(news.item_calls) == 1


async def test_a_push_of_items_asks_nobody(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place").showing()
    await feed.add(place, weather)
    place.handle.push_items([place.one()])
    await feed.clock.advance(1)
    assert len(weather.item_calls) == 1
    assert place.item_calls == []


async def test_a_manual_refresh_asks_everyone_and_returns_when_each_has_answered(feed: Feed) -> None:
    sources = [Fetching("a.one"), Contextual("a.two"), Both("a.three").knowing(0), Pushing("a.four")]
    await feed.add(*sources)
    for source in sources:
        for call in [*source.item_calls, *source.context_calls]:
            call.answer([])
    await feed.clock.advance(1)
    done = anyio.Event()

    async def refresh() -> None:
        await feed.engine.refresh()
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(refresh)
        await feed.clock.settle()
        assert [source.in_flight for source in sources] == [1, 1, 1, 0]
        sources[0].item_calls[-1].answer([])
        sources[1].context_calls[-1].fail(Unreachable("gone"))
        await feed.clock.settle()
        assert not done.is_set()
        await feed.clock.advance(10)  # the third runs out of time
        assert done.is_set()


async def test_a_refresh_in_the_middle_of_a_call_asks_again_after_it(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    async with anyio.create_task_group() as group:
        group.start_soon(feed.engine.refresh)
        await feed.clock.settle()
        source.item_calls[0].answer([source.one(value="before")])
        await feed.clock.advance(1)
        assert len(source.item_calls) == 2
        source.item_calls[1].answer([source.one(value="after")])
    assert feed.values == {"a.source/1": "after"}


async def test_a_refresh_keeps_the_order_of_dependence(feed: Feed) -> None:
    place, weather = Contextual("a.place").knowing(1), Fetching("a.weather", "a.place")
    weather.items_script = lambda ctx: [weather.one(value=ctx.get(("a.place", "now")))]
    await feed.add(place, weather)
    await feed.clock.advance(1)
    place.knowing(2)
    await feed.engine.refresh()
    assert feed.values == {"a.weather/1": 2}
    assert len(weather.item_calls) == 2


@pytest.mark.parametrize("how", ["remove", "swap", "block", "close"])
async def test_a_refresh_does_not_wait_for_a_source_that_has_gone(feed: Feed, how: str) -> None:
    place, source = Pushing("a.place"), Fetching("a.source", "a.place")
    await feed.add(place, source)
    source.item_calls[0].answer([])
    await feed.clock.settle()  # so early after the last call the next one has to wait
    async with anyio.create_task_group() as group:
        group.start_soon(feed.engine.refresh)
        await anyio.lowlevel.checkpoint()
        match how:
            case "remove":
                feed.remove("a.source")
            case "swap":
                feed.swap(Fetching("a.source", "a.place"))
            case "block":
                feed.remove("a.place")
            case _:
                await feed.engine.aclose()


async def test_a_refresh_after_the_end_returns_at_once(feed: Feed) -> None:
    await feed.add(Fetching("a.source").showing())
    await feed.engine.aclose()
    await feed.engine.refresh()


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (Unauthorized("Connect again"), "unauthorized", "Connect again"),
        (Unreachable("No route"), "unreachable", "No route"),
        (RateLimited("Too many calls"), "rateLimited", "Too many calls"),
        (BadAnswer("Not JSON"), "badAnswer", "Not JSON"),
        (ConfigProblem("No such line"), "config", "No such line"),
        (SourceFailure("Odd", code="limit"), "limit", "Odd"),
        (ExceptionGroup("both", [ValueError("x"), Unreachable("No route")]), "unreachable", "No route"),
    ],
)
async def test_a_failing_source_is_shown_with_its_code_and_message(
    feed: Feed, raised: Exception, code: str, message: str
) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    source.item_calls[0].fail(raised)
    await feed.clock.settle()
    (error,) = feed.engine.state.errors
    assert (error.source_id, error.code, error.message) == ("a.source", code, message)
    assert error.retry_at is not None
    assert error.retry_at > feed.clock.now()
    assert feed.is_("a.source") == "failing"
    assert feed.status("a.source").error == error


class Wild(BaseException):
    """Neither an Exception nor anybody's cancellation."""


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("https://key@upstream/?token=hunter2"),
        Wild("hunter2"),
        CancelledError("hunter2"),
        BaseExceptionGroup("hunter2", [Wild("hunter2")]),
    ],
    ids=["exception", "base exception", "somebody else's cancellation", "group"],
)
async def test_whatever_a_source_raises_is_its_own_failure_and_its_text_stays_inside(
    feed: Feed, scope: TaskScope, raised: BaseException
) -> None:
    bad, good = Fetching("a.bad"), Fetching("a.good")
    await feed.add(bad, good)
    bad.item_calls[0].fail(raised)
    good.item_calls[0].answer([good.one()])
    await feed.clock.settle()
    (error,) = feed.engine.state.errors
    assert error.code == "internal"
    assert "hunter2" not in error.message
    assert feed.ids == ["a.good/1"]
    await feed.clock.advance(2.1)
    assert len(bad.item_calls) == 2


async def test_a_failure_is_shown_beside_the_last_good_items(feed: Feed) -> None:
    source = Fetching("a.source").showing(1)
    await feed.add(source)
    source.items_script = None
    await feed.clock.advance(400)
    source.item_calls[1].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert feed.values == {"a.source/1": 1}
    assert feed.errors == {"a.source": "unreachable"}


async def test_a_good_answer_ends_the_error_and_counts_failures_anew(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    source.item_calls[0].fail(Unreachable("gone"))
    await feed.clock.advance(2.1)
    source.item_calls[1].answer([])
    await feed.clock.settle()
    assert feed.errors == {}
    assert feed.is_("a.source") == "active"
    assert feed.status("a.source").last_ok_at == feed.clock.now()


async def test_retries_back_off_exponentially_with_jitter(feed: Feed) -> None:
    source = Fetching("a.source")
    times: list[float] = []

    def fail(_: object) -> None:
        times.append(feed.clock.monotonic())
        raise Unreachable("gone")

    source.items_script = fail
    await feed.add(source)
    await feed.clock.advance(3600)
    gaps = [after - before for before, after in pairwise(times)]
    for n, gap in enumerate(gaps):
        longest = min(300.0, 2.0 * 2**n)
        assert longest / 2 <= gap <= longest + 0.001
    assert len(set(gaps)) == len(gaps), "no two pauses are the same: chance has a part in each"


async def test_an_upstream_that_names_a_time_is_left_alone_until_then(feed: Feed) -> None:
    place, source = Pushing("a.place"), Fetching("a.source", "a.place")
    await feed.add(place, source)
    source.item_calls[0].fail(RateLimited("Too many calls", retry_after_s=1800))
    await feed.clock.advance(100)
    place.handle.push_context([place.known("elsewhere")])
    await feed.clock.advance(1699)
    assert len(source.item_calls) == 1, "neither the periodic refresh nor a new place asks before"
    source.showing()
    await feed.clock.advance(200)
    assert len(source.item_calls) == 2


async def test_wrong_credentials_are_not_tried_every_few_seconds(feed: Feed) -> None:
    source = Fetching("a.source")

    def refuse(_: object) -> None:
        raise Unauthorized("Connect again")

    source.items_script = refuse
    await feed.add(source)
    await feed.clock.advance(600)
    assert 2 <= len(source.item_calls) <= 6


async def test_a_failing_source_is_asked_at_once_about_a_new_input(feed: Feed) -> None:
    place, source = Pushing("a.place"), Fetching("a.source", "a.place")
    await feed.add(place, source)
    source.item_calls[0].fail(Unauthorized("not here"))
    await feed.clock.advance(1)
    place.handle.push_context([place.known("elsewhere")])
    await feed.clock.advance(1)
    assert len(source.item_calls) == 2


async def test_an_input_key_that_raises_is_its_sources_failure(feed: Feed) -> None:
    place, bad, good = (
        Pushing("a.place"),
        Fetching("a.bad", "a.place"),
        Fetching("a.good", "a.place").showing(),
    )
    bad.showing()
    await feed.add(place, bad, good)

    def broken(_: object) -> str:
        raise KeyError("hunter2")

    bad.key_script = broken
    place.handle.push_context([place.known(1)])
    await feed.clock.advance(1)
    assert feed.errors == {"a.bad": "internal"}
    assert len(good.item_calls) == 2


async def test_a_dependency_that_fails_does_not_stop_its_dependents(feed: Feed) -> None:
    place, weather = Contextual("a.place"), Fetching("a.weather", "a.place").showing()
    await feed.add(place, weather)
    place.context_calls[0].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert feed.ids == ["a.weather/1"]
    assert feed.is_("a.weather") == "active"


async def test_periodic_refresh_comes_every_five_minutes_with_jitter(feed: Feed) -> None:
    sources: list[Source] = [Fetching(f"a.s{n}").showing() for n in range(20)]
    times: dict[str, list[float]] = {source.id: [] for source in sources}
    for source in sources:
        source.items_script = lambda _, name=source.id: times[name].append(feed.clock.monotonic())
    await feed.add(*sources)
    await feed.clock.advance(1000)
    gaps = [b - a for one in times.values() for a, b in pairwise(one)]
    assert all(269.9 <= gap <= 330.1 for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 30


async def test_a_source_says_how_often_it_is_refreshed(feed: Feed) -> None:
    often, never = Fetching("a.often", refresh_every_s=10).showing(), Fetching("a.never", refresh_every_s=0)
    never.showing()
    await feed.add(often, never)
    await feed.clock.advance(100)
    assert 9 <= len(often.item_calls) <= 12
    await feed.clock.advance(3600)
    assert len(never.item_calls) == 1


async def test_edits_elsewhere_do_not_push_the_refresh_back(feed: Feed) -> None:
    source, other = Fetching("a.source").showing(), Pushing("a.other")
    await feed.add(source, other)
    for n in range(33):
        other.handle.push_items([other.one(value=n)])
        feed.swap(Fetching("a.third").showing(n))
        await feed.clock.advance(10)
    assert len(source.item_calls) == 2


async def test_the_refresh_rests_while_nobody_listens_and_catches_up_at_once(make_feed: MakeFeed) -> None:
    feed = make_feed()
    source, failing = Fetching("a.source").showing(), Fetching("a.failing")
    await feed.add(source, failing)
    failing.item_calls[0].fail(Unreachable("gone"))
    await feed.clock.advance(1)
    feed.engine.set_listening(False)
    await feed.clock.advance(7200)
    assert (len(source.item_calls), len(failing.item_calls)) == (1, 1)
    feed.engine.set_listening(True)
    await feed.clock.settle()
    assert (len(source.item_calls), len(failing.item_calls)) == (2, 2)


async def test_a_source_added_without_asking_is_asked_when_somebody_listens(make_feed: MakeFeed) -> None:
    feed = make_feed()
    feed.engine.set_listening(False)
    source = Fetching("a.source").showing()
    feed.engine.add(source, ask=False)
    await feed.clock.advance(100)
    assert source.item_calls == []
    feed.engine.set_listening(True)
    await feed.clock.settle()
    assert len(source.item_calls) == 1


async def test_the_timer_rings_only_for_what_is_due(feed: Feed) -> None:
    hung, failing = Fetching("a.hung", timeout_s=500), Fetching("a.failing")
    steady, pushing = Fetching("a.steady").showing(), Pushing("a.pushing")
    expiring = pushing.one(expires_at=feed.clock.now() + timedelta(seconds=100))

    def fail(_: object) -> None:
        raise Unreachable("gone")

    failing.items_script = fail
    await feed.add(hung, failing, steady, pushing)
    pushing.handle.push_items([expiring])
    await feed.clock.advance(3600)
    done = feed.engine.statistics()
    assert done.wakes <= 2 * done.runs + 5


class EarlyClock(TestClock):
    """Rings half a millisecond early, as rounding may."""

    def call_later(self, delay_s: float, fn: Callable[[], object]) -> TimerHandle:
        return super().call_later(max(0.0, delay_s - 0.0005), fn)


async def test_a_timer_that_rings_a_hair_early_does_its_work_and_does_not_spin(
    clock: TestClock, scope: TaskScope
) -> None:
    feed = Feed(EarlyClock(), scope)
    feed.engine.set_listening(True)
    source = Fetching("a.source")
    source.items_script = lambda ctx: [source.one(expires_at=ctx.time + timedelta(seconds=10))]
    await feed.add(source)
    await clock.advance(11)
    assert feed.ids == []
    assert feed.engine.statistics().wakes == 1
    await feed.engine.aclose()


async def test_no_task_is_left_when_every_source_has_answered(
    feed: Feed, scope: TaskScope, clock: TestClock
) -> None:
    await feed.add(Fetching("a.one").showing(), Both("a.two").knowing(1).showing(), Pushing("a.three"))
    await clock.advance(5)
    assert scope.count == 0
