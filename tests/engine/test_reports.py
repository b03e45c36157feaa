"""What sources report, and how long it is shown: the last report wins, failures blank nothing too early."""

from __future__ import annotations

from datetime import timedelta

import pytest

from protocol.feed import ContextEntry, FeedItem, SourceError
from protocol.ids import SourceId
from server.engine import Answer, Context, FeedLimits, FeedSource, SavedSource, Unreachable
from tests.engine.conftest import Feed, MakeFeed
from tests.engine.sources import Both, Contextual, Fetching, Pushing
from tests.support.clock import START

# Pushes


def saved_of(feed: Feed, *names: str) -> dict[SourceId, SavedSource]:
    """What the engine would save of these, where there is anything."""
    reports = {SourceId(name): feed.engine.saved(SourceId(name)) for name in names}
    return {name: report for name, report in reports.items() if report is not None}


async def test_pushed_items_are_used_as_pushed_without_a_fetch(feed: Feed) -> None:
    source = Fetching("a.source").showing(1)
    await feed.add(source)
    item = source.one(value="pushed")
    source.handle.push_items([item])
    await feed.clock.advance(1)
    assert feed.items == (item,)
    assert feed.items[0] is item
    assert len(source.item_calls) == 1


async def test_a_push_during_a_fetch_is_newer_than_the_fetchs_answer(feed: Feed) -> None:
    source = Both("a.source")
    await feed.add(source)
    source.handle.push_context([source.known("pushed")])
    source.context_calls[0].answer([source.known("fetched")])
    await feed.clock.settle()
    assert feed.known == {"a.source": "pushed"}
    source.handle.push_items([source.one(value="pushed")])
    source.item_calls[0].answer([source.one(value="fetched")])
    await feed.clock.advance(1)
    assert feed.values == {"a.source/1": "pushed"}
    assert len(source.item_calls) == 1, "a push asks for no second fetch"


async def test_a_fetch_that_began_after_a_push_is_newer_than_it(feed: Feed) -> None:
    source = Both("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(value="pushed")])
    source.context_calls[0].answer([])
    await feed.clock.settle()
    source.item_calls[0].answer([source.one(value="fetched")])
    await feed.clock.settle()
    assert feed.values == {"a.source/1": "fetched"}


async def test_a_push_ends_the_wait_for_the_first_answer(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    source.handle.push_items([])
    assert feed.engine.state.pending == ()
    assert feed.is_("a.source") == "active"


async def test_a_source_may_push_as_soon_as_it_is_attached(feed: Feed) -> None:
    class Eager(Pushing):
        def attach(self, handle: object) -> None:
            super().attach(handle)  # pyright: ignore[reportArgumentType] -- a handle it is
            self.handle.push_context([self.known(1)])
            self.handle.push_items([self.one()])

    await feed.add(Eager("a.eager"))
    assert feed.ids == ["a.eager/1"]
    assert feed.known == {"a.eager": 1}


async def test_the_handle_tells_the_engines_time(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    await feed.clock.advance(60)
    assert source.handle.now() == START + timedelta(seconds=60)


@pytest.mark.parametrize("end", ["remove", "swap", "close"])
async def test_a_push_after_close_is_ignored(feed: Feed, end: str) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    match end:
        case "remove":
            feed.remove("a.source")
        case "swap":
            feed.swap(Pushing("a.source"))
        case _:
            await feed.engine.aclose()
    await feed.clock.settle()
    before = feed.engine.state, len(feed.states), feed.engine.statistics()
    source.handle.push_items([source.one()])
    source.handle.push_context([source.known(1)])
    source.handle.request_refresh()
    await feed.clock.advance(1)
    assert (feed.engine.state, len(feed.states), feed.engine.statistics()) == before


async def test_what_changed_nothing_is_no_emission(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one("1"), source.one("2")])
    state, emissions = feed.engine.state, len(feed.states)
    source.handle.push_items([source.one("1"), source.one("2")])
    assert len(feed.states) == emissions
    assert feed.engine.state is state


async def test_what_is_equal_to_before_stays_the_same_object(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one("1"), source.one("2"), source.one("3")])
    first, _, third = feed.items
    source.handle.push_items([source.one("3"), source.one("1"), source.one("2", value=9)])
    assert feed.items[0] is third
    assert feed.items[1] is first
    assert feed.values["a.source/2"] == 9


@pytest.mark.parametrize("nonsense", ["abc", 5, [1], [None], ["abc"]])
async def test_nonsense_that_is_pushed_is_reported_and_changes_nothing(feed: Feed, nonsense: object) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one()])
    source.handle.push_context([source.known(1)])
    source.handle.push_items(nonsense)  # pyright: ignore[reportArgumentType] -- that is the point
    source.handle.push_context(nonsense)  # pyright: ignore[reportArgumentType] -- that is the point
    assert feed.errors == {"a.source": "badAnswer"}
    assert feed.ids == ["a.source/1"]
    assert feed.known == {"a.source": 1}
    source.handle.push_items([source.one()])
    source.handle.push_context([source.known(1)])
    assert feed.errors == {}


@pytest.mark.parametrize("nonsense", ["abc", 5, [1], Answer((), next_change_at=START.replace(tzinfo=None))])
async def test_nonsense_that_is_fetched_is_a_failure_and_changes_nothing(
    feed: Feed, nonsense: object
) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    source.handle.push_items([source.one()])
    source.handle.request_refresh()
    source.item_calls[0].answer([source.one()])
    await feed.clock.advance(1)
    source.item_calls[1].answer(nonsense)  # pyright: ignore[reportArgumentType] -- that is the point
    await feed.clock.settle()
    assert feed.errors == {"a.source": "badAnswer"}
    assert feed.is_("a.source") == "failing"
    assert feed.ids == ["a.source/1"]


# Item ids and limits of one source


async def test_item_ids_are_the_sources_id_a_slash_and_a_local_id(feed: Feed) -> None:
    source = Pushing("a.source")
    foreign = Pushing("b.other")
    await feed.add(source)
    source.handle.push_items([foreign.one("1"), source.one("x/y z")])
    assert feed.ids == ["a.source/x/y z"]
    assert feed.errors == {"a.source": "badAnswer"}
    assert feed.is_("a.source") == "active"


async def test_of_two_items_with_one_id_the_first_is_shown_and_the_source_has_an_error(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one("1", value="first"), source.one("1", value="second")])
    assert feed.values == {"a.source/1": "first"}
    assert feed.errors == {"a.source": "badAnswer"}
    source.handle.push_items([source.one("1", value="first"), source.one("2", value="second")])
    assert feed.errors == {}


async def test_an_item_that_is_too_large_is_left_out(make_feed: MakeFeed) -> None:
    feed = make_feed(limits=FeedLimits(item_bytes=1000))
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one("1"), source.one("2")])
    source.handle.push_items([source.one("1"), source.one("2", value="x" * 2000)])
    assert feed.ids == ["a.source/1"]
    assert feed.errors == {"a.source": "limit"}
    assert feed.counts.limits == {"max_item_bytes": 1}


async def test_context_that_is_too_large_is_left_out(make_feed: MakeFeed) -> None:
    feed = make_feed(limits=FeedLimits(context_bytes=1000))
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_context([source.known("x" * 2000, "big"), source.known(1, "small")])
    assert feed.known == {}
    assert feed.errors == {"a.source": "limit"}


async def test_a_source_keeps_no_more_items_than_twice_what_a_feed_can_show(make_feed: MakeFeed) -> None:
    feed = make_feed(limits=FeedLimits(items=5))
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(str(n)) for n in range(100)])
    assert len(feed.items) == 5
    assert len(saved_of(feed, "a.source")[SourceId("a.source")].items) == 10
    assert feed.errors == {"a.source": "limit", "freya.limits": "limit"}


async def test_past_the_feeds_limits_the_lowest_ranked_are_left_out_and_counted(make_feed: MakeFeed) -> None:
    feed = make_feed(limits=FeedLimits(items=10))
    one, other = Pushing("a.one"), Pushing("b.other")
    await feed.add(one, other)
    one.handle.push_items([one.one(str(n)) for n in range(7)])
    assert feed.errors == {}
    other.handle.push_items([other.one(str(n)) for n in range(7)])
    assert feed.ids == [f"a.one/{n}" for n in range(7)] + [f"b.other/{n}" for n in range(3)]
    (error,) = feed.engine.state.errors
    assert (error.source_id, error.code, error.message) == (
        "freya.limits",
        "limit",
        "4 items are left out: the feed is full",
    )
    await feed.clock.advance(10)
    other.handle.push_items([other.one(str(n)) for n in range(4)])
    (again,) = feed.engine.state.errors
    assert again.message == "1 item is left out: the feed is full"
    assert again.since == error.since
    other.handle.push_items([])
    assert feed.errors == {}
    assert feed.counts.limits == {"max_items": 2}


async def test_past_the_feeds_size_the_lowest_ranked_are_left_out_and_counted(make_feed: MakeFeed) -> None:
    feed = make_feed(limits=FeedLimits(bytes=5_000))
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(str(n), value="x" * 1_000) for n in range(7)])
    assert feed.ids == [f"a.source/{n}" for n in range(4)]
    assert feed.errors == {"freya.limits": "limit"}
    assert feed.counts.limits == {"max_feed_bytes": 1}


async def test_a_feed_is_never_larger_than_its_limit_context_included(make_feed: MakeFeed) -> None:
    feed = make_feed(limits=FeedLimits(bytes=10_000))
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_items([source.one(str(n), value="x" * 1000) for n in range(20)])
    assert len(feed.ids) == 9
    source.handle.push_context([source.known("x" * 5000)])
    state = feed.engine.state
    size = sum(len(item.encoded) for item in state.items) + sum(len(e.encoded) for e in state.context)
    assert 8_000 < size <= 10_000
    assert feed.errors == {"freya.limits": "limit"}


# Context


async def test_an_entry_that_is_missing_from_the_next_answer_is_withdrawn_before_dependents_run(
    feed: Feed,
) -> None:
    place, weather = Contextual("a.place"), Fetching("a.weather", "a.place").showing()
    place.context_script = lambda _: [place.known(1, "x"), place.known(2, "y")]
    await feed.add(place, weather)
    await feed.clock.advance(1)
    place.context_script = lambda _: [place.known(1, "x")]
    place.handle.request_refresh()
    await feed.clock.advance(1)
    assert [entry.key for entry in feed.engine.state.context] == [("a.place", "x")]
    assert [len(call.ctx.entries) for call in weather.item_calls] == [2, 1]


async def test_a_source_that_is_removed_takes_its_context_with_it_before_anybody_runs(feed: Feed) -> None:
    place = Pushing("a.place")

    class Curious(Fetching):
        uses = ("a.place",)

    curious = Curious("a.curious").showing()
    await feed.add(place, curious)
    place.handle.push_context([place.known(1)])
    await feed.clock.advance(1)
    feed.remove("a.place")
    await feed.clock.advance(1)
    assert [call.ctx.get(("a.place", "now")) for call in curious.item_calls] == [None, 1, None]
    assert feed.known == {}


async def test_none_as_an_answer_is_no_news(feed: Feed) -> None:
    source = Both("a.source").knowing(1).showing(1)
    await feed.add(source)
    source.context_script = source.items_script = lambda _: None
    await feed.engine.refresh()
    assert feed.known == {"a.source": 1}
    assert feed.values == {"a.source/1": 1}
    assert len(source.item_calls) == 2


async def test_an_empty_answer_takes_everything_back(feed: Feed) -> None:
    source = Both("a.source").knowing(1).showing(1)
    await feed.add(source)
    source.context_script = lambda _: []
    source.items_script = lambda _: []
    await feed.engine.refresh()
    assert feed.known == {}
    assert feed.ids == []


async def test_an_entry_under_a_foreign_key_is_left_out_and_reported(feed: Feed) -> None:
    source = Pushing("a.source")
    await feed.add(source)
    source.handle.push_context([ContextEntry.make(("b.other", "now"), 1), source.known(2)])
    assert feed.known == {"a.source": 2}
    assert feed.errors == {"a.source": "badAnswer"}


async def test_a_view_that_was_handed_out_never_changes(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place")
    await feed.add(place, weather)
    ctx: Context = weather.item_calls[0].ctx
    for value in range(3):
        place.handle.push_context([place.known(value)])
    assert ctx.entries == ()
    assert ctx.time == START


# While a source fails


async def failing_at(feed: Feed, place: Pushing, weather: Both) -> None:
    """Shows the weather of one place, then fails."""
    weather.context_script = lambda ctx: [weather.known(f"air of {ctx.get(('a.place', 'now'))}")]
    weather.items_script = lambda ctx: [weather.one(value=ctx.get(("a.place", "now")))]
    await feed.add(place, weather)
    place.handle.push_context([place.known("here")])
    await feed.clock.advance(1)
    assert feed.values == {"a.weather/1": "here"}

    def fail(_: object) -> None:
        raise Unreachable("gone")

    weather.context_script = weather.items_script = fail
    await feed.engine.refresh()
    await feed.clock.settle()
    assert feed.errors == {"a.weather": "unreachable"}


async def test_a_failing_source_keeps_items_and_context_while_its_input_is_the_same(feed: Feed) -> None:
    await failing_at(feed, Pushing("a.place"), Both("a.weather", "a.place"))
    await feed.clock.advance(3000)
    assert feed.values == {"a.weather/1": "here"}
    assert feed.known["a.weather"] == "air of here"


async def test_a_failing_source_loses_both_after_stale_after(feed: Feed) -> None:
    await failing_at(feed, Pushing("a.place"), Both("a.weather", "a.place"))
    await feed.clock.advance(3598)
    assert feed.values == {"a.weather/1": "here"}
    await feed.clock.advance(2)
    assert feed.values == {}
    assert "a.weather" not in feed.known


async def test_a_failing_source_loses_both_at_once_when_its_input_changes(feed: Feed) -> None:
    place = Pushing("a.place")
    await failing_at(feed, place, Both("a.weather", "a.place"))
    place.handle.push_context([place.known("there")])
    assert feed.values == {}
    assert feed.known == {"a.place": "there"}


async def test_a_call_that_fails_for_a_new_input_takes_the_old_items_with_it(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Fetching("a.weather", "a.place").showing("old")
    await feed.add(place, weather)
    weather.items_script = None
    await feed.clock.advance(1)
    place.handle.push_context([place.known("there")])
    await feed.clock.advance(1)
    assert feed.values == {"a.weather/1": "old"}, "until the new place is answered or fails"
    weather.item_calls[1].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert feed.values == {}


async def test_one_timeout_blanks_nothing(feed: Feed) -> None:
    source = Fetching("a.source").showing(1)
    await feed.add(source)
    source.items_script = None
    source.handle.request_refresh()
    await feed.clock.advance(11)
    assert feed.errors == {"a.source": "unreachable"}
    assert feed.values == {"a.source/1": 1}


async def test_a_new_context_stays_when_only_the_items_fail(feed: Feed) -> None:
    place, weather = Pushing("a.place"), Both("a.weather", "a.place")
    weather.context_script = lambda ctx: [weather.known(ctx.get(("a.place", "now")))]
    weather.showing("old")
    await feed.add(place, weather)
    weather.items_script = None
    await feed.clock.advance(1)
    place.handle.push_context([place.known("there")])
    await feed.clock.advance(1)
    weather.item_calls[1].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert feed.known["a.weather"] == "there"
    assert feed.values == {}


async def test_what_a_failing_source_only_ever_pushed_stays(feed: Feed) -> None:
    place, source = Pushing("a.place"), Contextual("a.source", "a.place").knowing(1)
    await feed.add(place, source)
    source.handle.push_items([source.one()])
    source.context_script = None
    source.handle.request_refresh()
    await feed.clock.advance(1)
    source.context_calls[1].fail(Unreachable("gone"))
    await feed.clock.advance(1)
    place.handle.push_context([place.known("there")])
    await feed.clock.advance(4000)
    assert feed.ids == ["a.source/1"], "nobody could ask for it again"
    assert "a.source" not in feed.known


# Swaps


async def test_a_swap_keeps_the_old_items_until_the_first_answer_of_the_new(feed: Feed) -> None:
    old, new = Both("a.source").knowing("old").showing("old"), Both("a.source")
    await feed.add(old)
    feed.swap(new)
    await feed.clock.settle()
    assert feed.values == {"a.source/1": "old"}
    assert feed.known == {"a.source": "old"}
    assert feed.is_("a.source") == "starting"
    assert feed.engine.state.pending == ("a.source",)
    new.context_calls[0].answer([])
    await feed.clock.settle()
    assert feed.known == {}
    assert feed.values == {"a.source/1": "old"}
    new.item_calls[0].answer([new.one(value="new")])
    await feed.clock.settle()
    assert feed.values == {"a.source/1": "new"}
    assert feed.causes[-1].trigger == "swap"


async def test_a_swap_keeps_its_place_and_disturbs_nobody(feed: Feed) -> None:
    sources = [Fetching(f"a.s{n}").showing(n) for n in range(3)]
    await feed.add(*sources)
    feed.swap(Fetching("a.s1").showing("new"))
    await feed.clock.settle()
    assert feed.values == {"a.s0/1": 0, "a.s1/1": "new", "a.s2/1": 2}
    assert feed.ids == ["a.s0/1", "a.s1/1", "a.s2/1"]
    assert [len(source.item_calls) for source in sources] == [1, 1, 1]
    assert [source.closed for source in sources] == [0, 1, 0]


async def test_a_swap_asks_only_dependents_whose_input_it_changes(feed: Feed) -> None:
    place, weather = Contextual("a.place").knowing("here"), Fetching("a.weather", "a.place").showing()
    await feed.add(place, weather)
    await feed.clock.advance(1)
    feed.swap(Contextual("a.place").knowing("here"))
    await feed.clock.advance(1)
    assert len(weather.item_calls) == 1
    feed.swap(Contextual("a.place").knowing("there"))
    await feed.clock.advance(1)
    assert len(weather.item_calls) == 2
    assert feed.is_("a.weather") == "active"


async def test_the_answer_of_a_swapped_source_is_not_shown(feed: Feed) -> None:
    old, new = Fetching("a.source"), Fetching("a.source")
    await feed.add(old)
    feed.swap(new)
    old.item_calls[0].answer([old.one(value="late")])
    await feed.clock.settle()
    assert feed.values == {}
    new.item_calls[0].answer([new.one(value="new")])
    await feed.clock.settle()
    assert feed.values == {"a.source/1": "new"}


async def test_a_swap_of_a_pushing_source_shows_what_the_new_one_pushes_in_the_same_breath(
    feed: Feed,
) -> None:
    old, new = Pushing("a.source"), Pushing("a.source")
    await feed.add(old)
    old.handle.push_items([old.one(value="old")])
    feed.swap(new)
    new.handle.push_items([new.one(value="new")])
    await feed.clock.settle()
    assert [dict(v) for v in ({i.id: i.data["value"] for i in s.items} for s in feed.states)][-2:] == [
        {"a.source/1": "old"},
        {"a.source/1": "new"},
    ]


async def test_a_pushing_source_that_pushes_nothing_after_a_swap_has_nothing(feed: Feed) -> None:
    old, new = Pushing("a.source"), Pushing("a.source")
    await feed.add(old)
    old.handle.push_items([old.one(value="old")])
    old.handle.push_context([old.known("old")])
    feed.swap(new)
    await feed.clock.advance(0.01)
    assert feed.values == {}
    assert feed.known == {}
    assert feed.is_("a.source") == "active"


async def test_a_swapped_source_that_fails_shows_the_old_items_while_their_input_holds(feed: Feed) -> None:
    place, old, new = Pushing("a.place"), Fetching("a.source", "a.place"), Fetching("a.source", "a.place")
    new.key_script = lambda _: "a key of another kind"
    old.showing("old")
    await feed.add(place, old)
    feed.swap(new)
    await feed.clock.settle()
    new.item_calls[0].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert feed.values == {"a.source/1": "old"}
    assert feed.errors == {"a.source": "unreachable"}
    new.key_script = lambda _: "one more"
    place.handle.push_context([place.known("there")])
    assert feed.values == {}


async def test_a_source_of_a_foreign_id_is_a_failure_of_that_source_alone(feed: Feed) -> None:
    old, foreign = Fetching("a.source").showing("old"), Fetching("a.foreign").showing()
    await feed.add(old, Fetching("a.other").showing())
    feed.engine.swap(SourceId("a.source"), foreign)
    await feed.clock.settle()
    assert feed.errors == {"a.source": "internal"}
    assert feed.ids == ["a.source/1", "a.other/1"]
    assert foreign.closed == 1
    assert feed.engine.source(SourceId("a.source")) is old


async def test_a_source_whose_attach_raises_is_failing_alone(feed: Feed) -> None:
    class Broken(Pushing):
        def attach(self, handle: object) -> None:
            raise ValueError("hunter2")

    await feed.add(Broken("a.broken"), Fetching("a.other").showing())
    assert feed.errors == {"a.broken": "internal"}
    assert "hunter2" not in feed.engine.state.errors[0].message
    assert feed.ids == ["a.other/1"]


# Sources that could not be built, and saved reports


def unbuildable(name: str) -> SourceError:
    return SourceError(name, "unauthorized", "Connect again", START)


async def test_a_source_that_could_not_be_built_is_visible_and_costs_nobody_else_anything(feed: Feed) -> None:
    await feed.add(Fetching("a.other").showing())
    feed.engine.fail(SourceId("a.broken"), unbuildable("a.broken"))
    assert feed.is_("a.broken") == "failing"
    assert feed.errors == {"a.broken": "unauthorized"}
    assert feed.ids == ["a.other/1"]
    await feed.add(Fetching("a.broken").showing())
    assert feed.errors == {}
    assert feed.is_("a.broken") == "active"


async def test_the_old_instance_goes_on_while_its_successor_cannot_be_built(feed: Feed) -> None:
    old = Fetching("a.source").showing(1)
    await feed.add(old)
    feed.engine.fail(SourceId("a.source"), unbuildable("a.source"))
    old.showing(2)
    await feed.engine.refresh()
    assert feed.values == {"a.source/1": 2}
    assert feed.is_("a.source") == "failing", "a good answer of the old one does not hide it"
    feed.swap(Fetching("a.source").showing(3))
    await feed.clock.settle()
    assert feed.is_("a.source") == "active"


async def test_all_sources_failing_is_still_a_feed(feed: Feed) -> None:
    for name in ("a.one", "a.two"):
        feed.engine.fail(SourceId(name), unbuildable(name))
    assert feed.items == ()
    assert set(feed.errors) == {"a.one", "a.two"}


async def saved_weather(make_feed: MakeFeed, place_value: str) -> dict[SourceId, SavedSource]:
    """What an earlier process left of the weather somewhere."""
    feed = make_feed()
    place, weather = Pushing("a.place"), Both("a.weather", "a.place").knowing("mild").showing("old")
    await feed.add(place, weather)
    place.handle.push_context([place.known(place_value)])
    await feed.clock.advance(1)
    saved = saved_of(feed, "a.place", "a.weather")
    assert all(isinstance(one.input_key, str | None) for one in saved.values())
    await feed.engine.aclose()
    return saved


async def test_what_was_saved_is_shown_at_once_until_the_first_answer(
    feed: Feed, make_feed: MakeFeed
) -> None:
    saved = await saved_weather(make_feed, "here")
    place, weather = Pushing("a.place"), Both("a.weather", "a.place")
    feed.engine.add(weather, saved=saved[SourceId("a.weather")])
    feed.engine.add(place, saved=saved[SourceId("a.place")])
    assert feed.values == {"a.weather/1": "old"}
    assert feed.known == {"a.place": "here", "a.weather": "mild"}
    assert feed.engine.state.pending == ("a.weather",)
    await feed.clock.settle()
    weather.context_calls[0].answer([])
    await feed.clock.settle()
    weather.item_calls[0].answer([weather.one(value="new")])
    await feed.clock.settle()
    assert feed.values == {"a.weather/1": "new"}
    assert feed.known == {"a.place": "here"}


@pytest.mark.parametrize(("now_at", "kept"), [("here", True), ("there", False)])
async def test_saved_items_outlive_a_failure_only_where_the_input_is_what_it_was(
    feed: Feed, make_feed: MakeFeed, now_at: str, kept: bool
) -> None:
    saved = await saved_weather(make_feed, "here")
    place, weather = Pushing("a.place"), Both("a.weather", "a.place")
    feed.engine.add(place)
    place.handle.push_context([place.known(now_at)])
    feed.engine.add(weather, saved=saved[SourceId("a.weather")])
    await feed.clock.settle()
    weather.context_calls[0].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert (feed.values == {"a.weather/1": "old"}) is kept
    again = feed.engine.saved(SourceId("a.weather"))
    assert (again is not None and again.input_key == saved[SourceId("a.weather")].input_key) is kept


async def test_saved_items_that_are_too_old_go_with_the_first_failure(feed: Feed) -> None:
    source = Fetching("a.source")
    old = SavedSource((source.one(),), (), START - timedelta(hours=2))
    feed.engine.add(source, saved=old)
    assert feed.ids == ["a.source/1"]
    await feed.clock.settle()
    source.item_calls[0].fail(Unreachable("gone"))
    await feed.clock.settle()
    assert feed.ids == []
    assert not any(state.items for state in feed.states if state.errors)


async def test_saved_items_are_shown_beside_a_source_that_cannot_be_built_while_they_are_young(
    feed: Feed,
) -> None:
    item: FeedItem = Fetching("a.source").one()
    saved = SavedSource((item,), (), START - timedelta(minutes=30))
    feed.engine.fail(SourceId("a.source"), unbuildable("a.source"), saved=saved)
    assert feed.ids == ["a.source/1"]
    await feed.clock.advance(1801)
    assert feed.ids == []
    assert feed.errors == {"a.source": "unauthorized"}


async def test_saved_items_of_a_pushing_source_stay_while_they_are_young(feed: Feed) -> None:
    source = Pushing("a.source")
    feed.engine.add(source, saved=SavedSource((source.one(),), (source.known(1),), START))
    await feed.clock.advance(3599)
    assert feed.ids == ["a.source/1"]
    await feed.clock.advance(2)
    assert feed.ids == []
    assert feed.known == {}


async def test_saving_hands_out_the_same_objects_while_nothing_changed(feed: Feed) -> None:
    source = Both("a.source").knowing(1).showing(1)
    await feed.add(source, Pushing("a.empty"))
    before = saved_of(feed, "a.source", "a.empty")
    await feed.engine.refresh()
    after = saved_of(feed, "a.source", "a.empty", "a.nobody")
    assert set(after) == {"a.source"}
    assert after[SourceId("a.source")].items is before[SourceId("a.source")].items
    assert after[SourceId("a.source")].context is before[SourceId("a.source")].context


async def test_statistics_count_what_happened(feed: Feed) -> None:
    source, pushing = Fetching("a.source"), Pushing("a.pushing")
    await feed.add(source, pushing)
    pushing.handle.push_items([pushing.one()])
    source.item_calls[0].fail(Unreachable("gone"))
    await feed.clock.settle()
    done = feed.engine.statistics()
    assert (done.sources, done.runs, done.failures, done.pushes) == (2, 1, 1, 1)
    assert done.emissions == len(feed.states)
    assert done.compilations >= done.emissions


async def test_every_change_of_a_status_is_told(feed: Feed) -> None:
    source = Fetching("a.source")
    await feed.add(source)
    seen: list[tuple[str, str]] = []

    async def look() -> None:
        await feed.clock.settle()
        seen.extend((name, feed.is_(name)) for name in feed.told)
        feed.told.clear()

    await look()
    source.item_calls[0].fail(Unreachable("gone"))
    await look()
    await feed.clock.advance(2.1)
    source.item_calls[1].answer([])
    await look()
    source.handle.push_items([source.one()])
    await look()
    feed.remove("a.source")
    await look()
    assert seen == [
        ("a.source", "starting"),
        ("a.source", "failing"),
        ("a.source", "active"),
        ("a.source", "off"),
    ]


async def test_a_source_is_a_source_without_any_method(feed: Feed) -> None:
    class Least(FeedSource):
        id = "a.least"

    least = Least()
    feed.engine.add(least)
    assert feed.is_("a.least") == "active"
    assert feed.engine.source(SourceId("a.least")) is least
    assert least.actions() == ()


async def test_what_an_earlier_instance_reported_is_shown_but_not_saved_as_the_new_ones(feed: Feed) -> None:
    await feed.add(Fetching("a.source").showing("old"))
    assert not feed.engine.is_inheriting
    new = Fetching("a.source")
    feed.swap(new)
    await feed.clock.settle()
    assert feed.engine.is_inheriting
    assert saved_of(feed, "a.source") == {}
    new.item_calls[0].answer([new.one(value="new")])
    await feed.clock.settle()
    assert not feed.engine.is_inheriting
    assert [item.data["value"] for item in saved_of(feed, "a.source")[SourceId("a.source")].items] == ["new"]


async def test_several_changes_in_one_step_are_told_once(feed: Feed) -> None:
    with feed.engine.step():
        feed.engine.add(Pushing("a.one"))
        other = Pushing("a.other")
        feed.engine.add(other)
        other.handle.push_items([other.one()])
        assert feed.states == []
    assert len(feed.states) == 1
    assert feed.ids == ["a.other/1"]
    assert feed.causes[0].source_id == "a.one"
