"""Who needs whom: the order of the feed, who is blocked and why, and how they come back."""

from __future__ import annotations

import pytest

from protocol.ids import SourceId
from server.engine import Unreachable
from tests.engine.conftest import Feed, MakeFeed
from tests.engine.sources import Contextual, Fetching, Pushing


async def test_the_order_is_topological_with_ties_in_registration_order(make_feed: MakeFeed) -> None:
    feed = make_feed(order=["a.late", "a.first", "a.base", "a.second"])
    await feed.add(
        Fetching("a.second").showing(),
        Fetching("a.base").showing(),
        Fetching("a.late", "a.base").showing(),
        Fetching("a.first").showing(),
    )
    assert feed.ids == ["a.first/1", "a.base/1", "a.late/1", "a.second/1"]


async def test_the_order_does_not_depend_on_who_came_or_answered_first(make_feed: MakeFeed) -> None:
    names = ["a.one", "a.two", "a.three"]
    feed = make_feed(order=names)
    sources = {name: Fetching(name) for name in names}
    await feed.add(*(sources[name] for name in reversed(names)))
    for name in ("a.three", "a.one", "a.two"):
        sources[name].item_calls[0].answer([sources[name].one()])
        await feed.clock.settle()
    assert feed.ids == [f"{name}/1" for name in names]
    feed.remove("a.one")
    await feed.add(Fetching("a.one").showing())
    assert feed.ids == [f"{name}/1" for name in names]


async def test_sources_that_are_not_registered_come_last_in_the_order_of_their_coming(
    make_feed: MakeFeed,
) -> None:
    feed = make_feed(order=["a.known"])
    await feed.add(Fetching("b.x").showing(), Fetching("a.strange").showing(), Fetching("a.known").showing())
    assert feed.ids == ["a.known/1", "b.x/1", "a.strange/1"]


async def test_without_its_dependency_only_the_one_that_needs_it_is_blocked(feed: Feed) -> None:
    weather = Fetching("a.weather", "a.place")
    await feed.add(weather, Fetching("a.other").showing())
    status = feed.status("a.weather")
    assert status.status.value == "blocked"
    assert status.blocked_by == "a.place"
    assert status.blocked_reason == "needs a.place, which is off or missing"
    assert status.error is None
    assert weather.item_calls == []
    assert feed.ids == ["a.other/1"]
    assert feed.engine.state.pending == ()


async def test_a_blocked_source_resumes_when_what_it_needs_is_there(feed: Feed) -> None:
    weather = Fetching("a.weather", "a.place").showing()
    await feed.add(weather)
    await feed.add(Pushing("a.place"))
    assert feed.is_("a.weather") == "active"
    assert feed.ids == ["a.weather/1"]


async def test_removing_a_dependency_blocks_those_behind_it_hides_their_items_and_stops_their_calls(
    feed: Feed,
) -> None:
    place, weather = Pushing("a.place"), Contextual("a.weather", "a.place").knowing("mild")
    outfit, other = Fetching("a.outfit", "a.weather").showing(), Fetching("a.other").showing()
    await feed.add(place, weather, outfit, other)
    outfit.items_script = None
    outfit.handle.request_refresh()
    await feed.clock.advance(1)
    assert outfit.in_flight == 1
    feed.remove("a.place")
    assert feed.ids == ["a.other/1"]
    assert feed.known == {}
    assert (feed.is_("a.place"), feed.is_("a.weather"), feed.is_("a.outfit")) == ("off", "blocked", "blocked")
    assert feed.status("a.outfit").blocked_reason == "needs a.weather, which is blocked"
    await feed.clock.settle()
    assert outfit.item_calls[-1].cancelled
    assert len(other.item_calls) == 1
    assert (outfit.closed, weather.closed, place.closed) == (0, 0, 1)


async def test_what_comes_back_after_a_block_is_asked_anew_in_order(feed: Feed) -> None:
    weather = Contextual("a.weather", "a.place")
    weather.context_script = lambda ctx: [weather.known(f"mild {ctx.get(('a.place', 'now'))}")]
    outfit = Fetching("a.outfit", "a.weather")
    outfit.items_script = lambda ctx: [outfit.one(value=ctx.get(("a.weather", "now")))]
    await feed.add(Contextual("a.place").knowing(1), weather, outfit)
    feed.remove("a.place")
    await feed.clock.advance(1)
    await feed.add(Contextual("a.place").knowing(2))
    await feed.clock.advance(1)
    assert feed.values == {"a.outfit/1": "mild 2"}
    assert len(outfit.item_calls) == 2


async def test_a_push_of_a_blocked_source_is_kept_for_its_return(feed: Feed) -> None:
    place, source = Pushing("a.place"), Pushing("a.source", "a.place")
    await feed.add(place, source)
    feed.remove("a.place")
    source.handle.push_items([source.one()])
    source.handle.push_context([source.known(1)])
    assert feed.ids == []
    assert feed.known == {}
    assert feed.is_("a.source") == "blocked"
    await feed.add(Pushing("a.place"))
    assert feed.ids == ["a.source/1"]
    assert feed.known == {"a.source": 1}
    assert feed.is_("a.source") == "active"


async def test_items_that_expired_during_a_block_do_not_come_back(feed: Feed) -> None:
    source = Pushing("a.source", "a.place")
    await feed.add(Pushing("a.place"), source)
    soon = source.handle.now().replace(minute=1)
    source.handle.push_items([source.one("1", expires_at=soon), source.one("2")])
    feed.remove("a.place")
    await feed.clock.advance(120)
    await feed.add(Pushing("a.place"))
    assert feed.ids == ["a.source/2"]


async def test_in_a_cycle_only_those_in_it_and_behind_it_are_blocked(feed: Feed) -> None:
    await feed.add(
        Fetching("a.x", "a.y"),
        Fetching("a.y", "a.x"),
        Fetching("a.behind", "a.x"),
        Fetching("a.self", "a.self"),
        Fetching("a.base").showing(),
        Fetching("a.free", "a.base").showing(),
    )
    assert feed.ids == ["a.base/1", "a.free/1"]
    assert feed.status("a.x").blocked_reason == "needs itself: a.x -> a.y -> a.x"
    assert feed.status("a.behind").blocked_reason == "needs a.x, which is blocked"
    assert feed.status("a.self").blocked_by == "a.self"


async def test_a_swap_that_ends_a_cycle_frees_everybody(feed: Feed) -> None:
    await feed.add(Fetching("a.x", "a.y").showing(), Fetching("a.y", "a.x").showing())
    feed.swap(Fetching("a.y").showing())
    await feed.clock.settle()
    assert feed.ids == ["a.y/1", "a.x/1"]


async def test_a_swap_may_bring_a_need_that_blocks(feed: Feed) -> None:
    await feed.add(Fetching("a.x").showing())
    feed.swap(Fetching("a.x", "a.missing").showing())
    await feed.clock.settle()
    assert feed.is_("a.x") == "blocked"
    assert feed.ids == []


async def test_a_dependency_that_cannot_be_built_blocks_nobody(feed: Feed) -> None:
    from protocol.feed import SourceError

    weather = Fetching("a.weather", "a.place").showing()
    error = SourceError("a.place", "config", "No such place", feed.clock.now())
    feed.engine.fail(SourceId("a.place"), error)
    await feed.add(weather)
    assert feed.ids == ["a.weather/1"]


async def test_a_blocked_source_is_asked_neither_by_refresh_nor_by_itself(feed: Feed) -> None:
    source = Fetching("a.source", "a.missing")
    await feed.add(source)
    source.handle.request_refresh()
    await feed.engine.refresh()
    await feed.clock.advance(1000)
    assert source.item_calls == []


async def test_a_failing_source_that_is_blocked_and_comes_back_starts_anew(feed: Feed) -> None:
    source = Fetching("a.source", "a.place")
    await feed.add(Pushing("a.place"), source)
    source.item_calls[0].fail(Unreachable("gone"))
    await feed.clock.advance(1)
    feed.remove("a.place")
    assert feed.errors == {}
    await feed.add(Pushing("a.place"))
    assert feed.is_("a.source") == "starting"


@pytest.mark.parametrize("asks", ["context", "nothing"])
async def test_what_a_source_merely_uses_comes_first_and_never_blocks_it(feed: Feed, asks: str) -> None:
    class Curious(Fetching):
        uses = ("a.place",)

    place = Contextual("a.place").knowing(1) if asks == "context" else Pushing("a.place")
    curious = Curious("a.curious").showing()
    await feed.add(curious)
    assert feed.ids == ["a.curious/1"]
    await feed.add(place)
    await feed.clock.advance(1)
    assert [call.ctx.get(("a.place", "now")) for call in curious.item_calls] == (
        [None, 1] if asks == "context" else [None]
    )
