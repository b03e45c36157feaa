"""Post-processors in a feed: what they may do to it, and what they can't do to anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import cast

import anyio
import pytest

from protocol.feed import FeedItem, Group
from server.engine import Cause, Context, FeedLimits, Processed, TaskScope
from tests.engine.conftest import Feed, MakeFeed
from tests.engine.sources import Fetching, Pushing
from tests.support.clock import START

Work = Callable[[Sequence[FeedItem], Context], Processed | Awaitable[Processed]]


class Processor:
    """Does what the test says."""

    def __init__(self, work: Work, name: str = "p.test") -> None:
        self.name = name
        self.work = work
        self.seen: list[list[str]] = []

    def __call__(self, items: Sequence[FeedItem], ctx: Context) -> Processed | Awaitable[Processed]:
        self.seen.append([item.id for item in items])
        return self.work(items, ctx)


def always(wanted: Processed, name: str = "p.test") -> Processor:
    return Processor(lambda _items, _ctx: wanted, name)


def extra(local: str, source: str = "p.test") -> FeedItem:
    return Pushing(source).one(local)


async def pushed(feed: Feed, count: int = 3) -> Pushing:
    source = Pushing("a.s")
    await feed.add(source)
    source.handle.push_items([source.one(str(n)) for n in range(1, count + 1)])
    return source


async def test_a_processor_adds_suppresses_groups_and_boosts(make_feed: MakeFeed) -> None:
    group = Group(("a.s/1", "p.test/x"), "Two things")
    feed = make_feed(
        processors=[
            always(
                Processed(
                    additional_items=[extra("x")], suppress=["a.s/2"], groups=[group], boost={"a.s/3": 0.5}
                )
            )
        ]
    )
    await pushed(feed)
    assert feed.ids == ["a.s/3", "a.s/1", "p.test/x"]
    assert feed.engine.state.groups == (group,)


async def test_processors_run_in_order_each_seeing_what_the_one_before_left(make_feed: MakeFeed) -> None:
    first = always(Processed(additional_items=[extra("x")], suppress=["a.s/1"], boost={"a.s/3": 1}), "p.one")
    second = always(Processed(suppress=["p.test/x"]), "p.two")
    third = always(Processed(), "p.three")
    feed = make_feed(processors=[first, second, third])
    await pushed(feed)
    assert first.seen[-1] == ["a.s/1", "a.s/2", "a.s/3"]
    assert second.seen[-1] == ["a.s/2", "a.s/3", "p.test/x"], "ranking comes after all of them"
    assert third.seen[-1] == ["a.s/2", "a.s/3"]
    assert feed.ids == ["a.s/3", "a.s/2"]


async def test_an_addition_may_be_suppressed_by_its_own_processor(make_feed: MakeFeed) -> None:
    feed = make_feed(processors=[always(Processed(additional_items=[extra("x")], suppress=["p.test/x"]))])
    await pushed(feed, 1)
    assert feed.ids == ["a.s/1"]


async def test_groups_lose_vanished_ids_and_empty_groups_go(make_feed: MakeFeed) -> None:
    groups = [Group(("a.s/1", "a.s/2", "nobody/1", "a.s/1"), "some"), Group(("a.s/2",), "gone")]
    feed = make_feed(
        processors=[always(Processed(groups=groups), "p.one"), always(Processed(suppress=["a.s/2"]), "p.two")]
    )
    await pushed(feed)
    assert feed.engine.state.groups == (Group(("a.s/1",), "some"),)


async def test_groups_lose_what_the_session_and_the_limits_leave_out(make_feed: MakeFeed) -> None:
    feed = make_feed(
        processors=[always(Processed(groups=[Group(("a.s/1", "a.s/2", "a.s/3"), "all")]))],
        finish=lambda items, _: items[1:],
        limits=FeedLimits(items=1),
    )
    await pushed(feed)
    assert feed.ids == ["a.s/2"]
    assert feed.engine.state.groups == (Group(("a.s/2",), "all"),)


async def test_boosts_for_unknown_or_suppressed_items_have_no_effect(make_feed: MakeFeed) -> None:
    feed = make_feed(processors=[always(Processed(suppress=["a.s/1"], boost={"a.s/1": 1, "b.x/9": -1}))])
    await pushed(feed)
    assert feed.ids == ["a.s/2", "a.s/3"]


async def test_boosts_of_several_processors_add_up(make_feed: MakeFeed) -> None:
    feed = make_feed(
        processors=[
            always(Processed(boost={"a.s/3": 0.4, "a.s/1": -0.6}), "p.one"),
            always(Processed(boost={"a.s/2": 0.5, "a.s/3": 0.4, "a.s/1": 0.6}), "p.two"),
        ]
    )
    await pushed(feed)
    assert feed.ids == ["a.s/3", "a.s/2", "a.s/1"]


def well(_items: Sequence[FeedItem], _ctx: Context) -> Processed:
    return Processed()


def raising(_items: Sequence[FeedItem], _ctx: Context) -> Processed:
    raise ValueError("hunter2")


def mutating(items: Sequence[FeedItem], _ctx: Context) -> Processed:
    cast("dict[str, int]", items[0].data)["value"] = 666
    return Processed()


def appending(items: Sequence[FeedItem], _ctx: Context) -> Processed:
    cast("list[FeedItem]", items).append(extra("x"))
    return Processed()


async def mutating_later(items: Sequence[FeedItem], _ctx: Context) -> Processed:
    await anyio.lowlevel.checkpoint()
    cast("dict[str, int]", items[0].data)["value"] = 666
    return Processed()


BAD: list[Work] = [
    raising,
    mutating,
    appending,
    mutating_later,
    lambda _items, _ctx: cast("Processed", None),
    lambda _items, _ctx: Processed(boost={"a.s/1": float("nan")}, suppress=["a.s/1"]),
    lambda _items, _ctx: Processed(boost={"a.s/1": cast("float", "1")}, suppress=["a.s/1"]),
    lambda _items, _ctx: Processed(groups=[cast("Group", ("a.s/1",))], suppress=["a.s/1"]),
    lambda _items, _ctx: Processed(additional_items=[cast("FeedItem", {})], suppress=["a.s/1"]),
    lambda _items, _ctx: Processed(additional_items=[extra("x"), extra("x")], suppress=["a.s/1"]),
    lambda _items, _ctx: Processed(additional_items=[Pushing("a.s").one("1")], suppress=["a.s/2"]),
    lambda _items, _ctx: Processed(next_change_at=START.replace(tzinfo=None), suppress=["a.s/1"]),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
async def test_a_processor_that_fails_is_rolled_back_and_reported_and_the_rest_goes_on(
    make_feed: MakeFeed, bad: Work
) -> None:
    feed = make_feed(processors=[Processor(bad, "p.bad"), always(Processed(suppress=["a.s/3"]), "p.good")])
    await pushed(feed)
    await feed.clock.settle()
    assert feed.values == {"a.s/1": 0, "a.s/2": 0}
    assert feed.engine.state.groups == ()
    (error,) = feed.engine.state.errors
    assert (error.source_id, error.code) == ("p.bad", "internal")
    assert "hunter2" not in error.message


async def test_a_processor_that_is_well_again_is_not_reported_any_more(make_feed: MakeFeed) -> None:
    processor = Processor(raising)
    feed = make_feed(processors=[processor])
    source = await pushed(feed)
    since = feed.engine.state.errors[0].since
    await feed.clock.advance(60)
    processor.work = well
    source.handle.push_items([source.one(value=2)])
    assert feed.engine.state.errors == ()
    processor.work = raising
    source.handle.push_items([source.one(value=3)])
    assert feed.engine.state.errors[0].since > since


async def test_an_error_that_stays_keeps_its_beginning(make_feed: MakeFeed) -> None:
    feed = make_feed(processors=[Processor(raising)])
    source = await pushed(feed)
    await feed.clock.advance(60)
    source.handle.push_items([source.one(value=2)])
    assert feed.engine.state.errors[0].since == START


async def test_a_processor_that_hangs_is_left_out_after_its_timeout(make_feed: MakeFeed) -> None:
    async def hang(_items: Sequence[FeedItem], _ctx: Context) -> Processed:
        await anyio.sleep_forever()
        raise AssertionError

    feed = make_feed(processors=[Processor(hang, "p.hung"), always(Processed(suppress=["a.s/1"]), "p.good")])
    await pushed(feed)
    assert feed.ids == []
    # The first list was empty; what came during that derivation is derived after it.
    await feed.clock.advance(5)
    assert feed.ids == ["a.s/2", "a.s/3"]
    assert feed.errors == {"p.hung": "internal"}


async def test_an_asynchronous_processor_delays_the_list_and_the_last_report_wins(
    make_feed: MakeFeed, scope: TaskScope
) -> None:
    gates: list[anyio.Event] = []
    at_once = 0
    most_at_once = 0

    async def wait(_items: Sequence[FeedItem], _ctx: Context) -> Processed:
        nonlocal at_once, most_at_once
        at_once += 1
        most_at_once = max(most_at_once, at_once)
        gate = anyio.Event()
        gates.append(gate)
        await gate.wait()
        at_once -= 1
        return Processed()

    feed = make_feed(processors=[Processor(wait)])
    source = await pushed(feed, 1)
    for value in range(1, 20):
        source.handle.push_items([source.one(value=value)])
    await feed.clock.settle()
    while at_once:
        gates[-1].set()
        await feed.clock.advance(0.01)
    assert feed.values == {"a.s/1": 19}
    assert most_at_once == 1
    assert len(gates) <= 3
    assert scope.count == 0


async def test_a_processor_names_the_time_at_which_it_wants_to_look_again(make_feed: MakeFeed) -> None:
    def by_the_hour(items: Sequence[FeedItem], ctx: Context) -> Processed:
        late = ctx.time >= START + timedelta(hours=1)
        return Processed(
            suppress=["a.s/1"] if late else (), next_change_at=None if late else START + timedelta(hours=1)
        )

    feed = make_feed(processors=[Processor(by_the_hour)])
    await pushed(feed, 1)
    assert feed.engine.next_change_at == START + timedelta(hours=1)
    await feed.clock.advance(3599)
    assert feed.ids == ["a.s/1"]
    await feed.clock.advance(1)
    assert feed.ids == []
    assert feed.causes[-1] == Cause(None, "timer", feed.causes[-1].compute_ms)


async def test_processors_see_the_new_time_at_a_sources_next_change(make_feed: MakeFeed) -> None:
    times: list[datetime] = []

    def look(_items: Sequence[FeedItem], ctx: Context) -> Processed:
        times.append(ctx.time)
        return Processed()

    from server.engine import Answer

    feed = make_feed(processors=[Processor(look)])
    source = Fetching("a.s")
    source.items_script = lambda _: Answer((source.one(),), next_change_at=START + timedelta(seconds=30))
    await feed.add(source)
    await feed.clock.advance(30)
    assert times[-1] == START + timedelta(seconds=30)


async def test_a_processor_that_wants_to_look_again_at_once_and_always_does_not_spin(
    make_feed: MakeFeed,
) -> None:
    def eager(_items: Sequence[FeedItem], ctx: Context) -> Processed:
        return Processed(next_change_at=ctx.time)

    processor = Processor(eager)
    feed = make_feed(processors=[processor])
    await pushed(feed)
    await feed.clock.advance(10)
    assert len(processor.seen) <= 15


async def test_a_processor_that_makes_its_source_push_does_not_hold_the_event_loop(
    make_feed: MakeFeed,
) -> None:
    source = Pushing("a.s")
    pushes = 0

    def meddle(_items: Sequence[FeedItem], _ctx: Context) -> Processed:
        nonlocal pushes
        if source.attached and pushes < 50:
            pushes += 1
            source.handle.push_items([source.one(value=pushes)])
        return Processed()

    feed = make_feed(processors=[Processor(meddle)])
    feed.engine.add(source)
    assert pushes <= 2
    await feed.clock.advance(1)
    assert feed.values == {"a.s/1": 50}


async def test_what_a_processor_adds_anew_each_time_is_no_change(make_feed: MakeFeed) -> None:
    feed = make_feed(processors=[Processor(lambda _items, _ctx: Processed(additional_items=[extra("x")]))])
    source = await pushed(feed)
    state, count = feed.engine.state, len(feed.states)
    source.handle.push_items([source.one(str(n)) for n in range(1, 4)])
    feed.engine.derive_now(Cause(None, "dismiss"))
    assert len(feed.states) == count
    assert feed.engine.state is state


async def test_the_sessions_finish_has_the_last_word_and_is_asked_again_on_demand(
    make_feed: MakeFeed,
) -> None:
    hidden: set[str] = set()
    feed = make_feed(finish=lambda items, _: tuple(item for item in items if item.id not in hidden))
    await pushed(feed)
    hidden.add("a.s/2")
    feed.engine.derive_now(Cause(None, "dismiss"))
    assert feed.ids == ["a.s/1", "a.s/3"]
    assert feed.causes[-1].trigger == "dismiss"


async def test_a_finish_that_raises_leaves_the_list_as_it_was(make_feed: MakeFeed) -> None:
    def broken(_items: tuple[FeedItem, ...], _ctx: Context) -> tuple[FeedItem, ...]:
        raise ValueError("ours")

    feed = make_feed(finish=broken)
    await pushed(feed)
    assert feed.ids == ["a.s/1", "a.s/2", "a.s/3"]


async def test_added_items_count_towards_the_limits(make_feed: MakeFeed) -> None:
    feed = make_feed(
        processors=[always(Processed(additional_items=[extra("x")], boost={"p.test/x": 1}))],
        limits=FeedLimits(bytes=300),
    )
    await pushed(feed)
    assert feed.ids == ["p.test/x", "a.s/1"]
    assert feed.errors == {"freya.limits": "limit"}


async def test_every_emission_is_told_and_a_listener_that_raises_hurts_nobody(make_feed: MakeFeed) -> None:
    def broken(_: Cause) -> None:
        raise ValueError("a subscriber's own")

    feed = make_feed(on_change=broken)
    source = await pushed(feed, 1)
    source.handle.push_items([source.one(value=2)])
    assert feed.values == {"a.s/1": 2}
    assert [{i.id: i.data["value"] for i in state.items} for state in feed.states][-2:] == [
        {"a.s/1": 0},
        {"a.s/1": 2},
    ]


async def test_the_cause_names_source_trigger_and_time(feed: Feed) -> None:
    source = await pushed(feed)
    assert feed.causes[-1].source_id == source.id
    assert feed.causes[-1].trigger == "push"
    assert feed.causes[-1].compute_ms >= 0.0
    feed.remove(source.id)
    assert feed.causes[-1].trigger == "remove"
