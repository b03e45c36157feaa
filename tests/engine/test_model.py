"""Any course of events, beside a reading of it that is too simple to be wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.frozen import JsonValue
from server.engine import TaskScope, Unreachable
from tests.engine.conftest import Feed
from tests.engine.sources import Both, Call, Contextual, Fetching, Pushing, Source
from tests.support.clock import TestClock, VirtualLoop

# In registration order; each with its kind and what it needs.
KINDS: Mapping[str, tuple[type[Source], tuple[str, ...]]] = {
    "m.outfit": (Fetching, ("m.weather",)),
    "m.place": (Pushing, ()),
    "m.weather": (Both, ("m.place",)),
    "m.news": (Contextual, ()),
    "m.notes": (Pushing, ("m.news",)),
    "m.free": (Fetching, ()),
}
NAMES = list(KINDS)

Event: TypeAlias = "tuple[str, str, int]"


def in_a_feed(scenario: Callable[[Feed], Awaitable[None]]) -> None:
    """Runs one example on a loop of its own."""

    async def run() -> None:
        clock = TestClock()
        async with anyio.create_task_group() as group:
            feed = Feed(clock, TaskScope(group), order=NAMES)
            feed.engine.set_listening(True)
            await scenario(feed)
            group.start_soon(feed.engine.aclose)
            await clock.advance(30)
            assert feed.scope.count == 0

    options: dict[str, Any] = {"loop_factory": VirtualLoop}
    anyio.run(run, backend_options=options)


def runnable(present: Mapping[str, object]) -> list[str]:
    """Those that have all they need, dependencies first, else in registration order."""
    order: list[str] = []
    while ready := [n for n in NAMES if n in present and n not in order and set(KINDS[n][1]) <= set(order)]:
        order.append(ready[0])
    return order


class Held:
    """What one place in the feed shows, and the instance that is in it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.items: JsonValue = None
        self.context: JsonValue = None
        self.overtaken: set[Call[Any]] = set()


class LastReports:
    """The simple reading: what each source reported last is what is shown."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.held: dict[str, Held] = {}

    def make(self, name: str) -> Source:
        kind, needs = KINDS[name]
        source = kind(name, *needs)
        source.stale_after_s = 1e9
        source.key_script = lambda _: 0
        return source

    async def happen(self, what: str, name: str, value: int) -> None:
        held = self.held.get(name)
        if what == "come or swap":
            source = self.make(name)
            if held is None:
                self.feed.engine.add(source)
                self.held[name] = Held(source)
            else:
                self.feed.swap(source)
                self.succeed(held, source)
        elif what == "advance":
            await self.feed.clock.advance((0.05, 1.0, 12.0, 400.0)[value])
        elif held is not None:
            if what == "go":
                self.feed.remove(name)
                del self.held[name]
            else:
                self.report(what, held, value)
        # Past the pause between two calls, so that whatever is due is asked.
        await self.feed.clock.advance(0.1)

    def succeed(self, held: Held, source: Source) -> None:
        held.source = source
        held.overtaken = set()
        if not source.fetches_items:
            held.items = None
        if not source.fetches_context:
            held.context = None

    def report(self, what: str, held: Held, value: int) -> None:
        source = held.source
        items = [source.one(value=value)] if value else []
        entries = [source.known(value)] if value else []
        if what == "push items":
            held.items = value or None
            held.overtaken |= set(source.item_calls)
            source.handle.push_items(items)
        elif what == "push context":
            held.context = value or None
            held.overtaken |= set(source.context_calls)
            source.handle.push_context(entries)
        elif (
            what == "answer"
            and source.in_flight
            and source.context_calls
            and not source.context_calls[-1].done
        ):
            self.answer(held, source.context_calls[-1], entries, value)
        elif what == "answer" and source.in_flight:
            self.answer(held, source.item_calls[-1], items, value)
        elif what == "fail" and source.in_flight:
            for call in [*source.context_calls, *source.item_calls]:
                call.fail(Unreachable("gone"))

    def answer(self, held: Held, call: Call[Any], answer: list[Any], value: int) -> None:
        call.answer(answer)
        if call in held.overtaken:
            return
        if call in held.source.context_calls:
            held.context = value or None
        else:
            held.items = value or None

    def check(self) -> None:
        shown = runnable(self.held)
        reports = {name: self.held[name] for name in shown}
        assert self.feed.values == {
            f"{name}/1": held.items for name, held in reports.items() if held.items is not None
        }
        assert self.feed.ids == [f"{name}/1" for name in shown if self.held[name].items is not None]
        assert self.feed.known == {
            name: held.context for name, held in reports.items() if held.context is not None
        }
        for name in NAMES:
            blocked = name in self.held and name not in shown
            assert (self.feed.is_(name) == "blocked") is blocked
            assert (self.feed.is_(name) == "off") is (name not in self.held)
        assert all(held.source.most_in_flight <= 1 for held in self.held.values())


events = st.tuples(
    st.sampled_from(
        [
            "come or swap",
            "come or swap",
            "go",
            "push items",
            "push context",
            "answer",
            "answer",
            "fail",
            "advance",
        ]
    ),
    st.sampled_from(NAMES),
    st.integers(0, 3),
)


@settings(max_examples=150)
@given(st.lists(events, max_size=40))
def test_the_feed_is_at_every_moment_what_was_last_reported(course: list[Event]) -> None:
    async def scenario(feed: Feed) -> None:
        reading = LastReports(feed)
        for name in NAMES:
            await reading.happen("come or swap", name, 0)
        for what, name, value in course:
            await reading.happen(what, name, value)
            reading.check()
        if feed.states:
            assert feed.states[-1] == feed.engine.state, "what was told last is what is"

    in_a_feed(scenario)


class Web:
    """Sources that answer out of their context, or fail, or hang, as the course of events has it."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.sources: dict[str, Source] = {}
        self.pushed: dict[str, int] = {}
        self.moods: dict[str, int] = {}

    def make(self, name: str) -> Source:
        kind, needs = KINDS[name]
        source = kind(name, *needs)
        source.context_script = lambda ctx: [source.known(self.reading(name, ctx.get))]
        source.items_script = lambda ctx: [source.one(value=self.reading(name, ctx.get))]
        return source

    def reading(self, name: str, get: Callable[[tuple[str, str]], JsonValue]) -> JsonValue:
        if self.moods.get(name) == 1:
            raise Unreachable("in a bad mood")
        return f"{name} of {[get((needed, 'now')) for needed in KINDS[name][1]]}"

    async def happen(self, what: str, name: str, value: int) -> None:
        source = self.sources.get(name)
        if what == "come or swap":
            if source is None:
                self.pushed.pop(name, None)
            self.sources[name] = source = self.make(name)
            self.feed.swap(source)
            if name in self.pushed:
                self.push(source, self.pushed[name])
        elif what == "go":
            self.sources.pop(name, None)
            self.feed.remove(name)
        elif what == "mood":
            self.moods[name] = value
        elif what == "advance":
            await self.feed.clock.advance((0.01, 0.2, 12.0, 400.0)[value])
        elif source is not None and isinstance(source, Pushing):
            self.push(source, value)

    def push(self, source: Source, value: int) -> None:
        self.pushed[source.id] = value
        source.handle.push_context([source.known(value)])
        source.handle.push_items([source.one(value=value)])

    def check(self) -> None:
        """The whole feed, computed anew from nothing but what is there."""
        context: dict[str, JsonValue] = {}
        items: dict[str, JsonValue] = {}
        for name in runnable(self.sources):
            source = self.sources[name]
            value = self.reading(name, lambda key: context.get(key[0]))
            if isinstance(source, Pushing):
                if name in self.pushed:
                    context[name] = items[f"{name}/1"] = self.pushed[name]
                continue
            if source.fetches_items:
                items[f"{name}/1"] = value
            if source.fetches_context:
                context[name] = value
        assert self.feed.values == items
        assert self.feed.known == context
        assert list(self.feed.values) == list(items)
        assert self.feed.engine.state.errors == ()
        assert self.feed.engine.state.pending == ()


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["come or swap", "go", "mood", "mood", "push", "push", "advance"]),
            st.sampled_from(NAMES),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_whatever_happened_the_feed_ends_as_computed_anew(course: list[Event]) -> None:
    async def scenario(feed: Feed) -> None:
        web = Web(feed)
        for name in NAMES:
            await web.happen("come or swap", name, 0)
        for what, name, value in course:
            await web.happen(what, name, value)
        web.moods.clear()
        await feed.clock.advance(400)  # everybody has been asked again by then
        web.check()
        assert feed.engine.statistics().wakes <= 3 * feed.engine.statistics().runs + 50

    in_a_feed(scenario)
