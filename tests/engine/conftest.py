"""An engine on the clock that the test moves, and everything it said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Protocol

import pytest
from anyio import create_task_group

from protocol.feed import FeedItem
from protocol.frozen import JsonValue
from protocol.ids import SourceId
from server.engine import (
    Cause,
    EngineState,
    FeedEngine,
    FeedLimits,
    FeedSource,
    Finish,
    PostProcessor,
    SourceStatus,
    TaskScope,
)
from server.engine.status import EngineCounts
from tests.engine.sources import values
from tests.support.clock import TestClock

__all__ = ["Feed", "MakeFeed"]


class Feed:
    """One engine, seen from outside."""

    def __init__(
        self,
        clock: TestClock,
        scope: TaskScope,
        *,
        processors: Sequence[PostProcessor] = (),
        finish: Finish | None = None,
        limits: FeedLimits | None = None,
        order: Sequence[str] = (),
        on_change: Callable[[Cause], None] | None = None,
    ) -> None:
        self.clock = clock
        self.scope = scope
        self.states: list[EngineState] = []
        self.causes: list[Cause] = []
        self.told: list[SourceId] = []
        self.counts = EngineCounts()
        self._on_change = on_change
        self.engine = FeedEngine(
            clock=clock,
            tasks=scope,
            on_change=self._note,
            on_status=self.told.append,
            processors=processors,
            finish=finish,
            limits=limits or FeedLimits(),
            counts=self.counts,
            order=[SourceId(name) for name in order],
            rng=Random(0),
        )

    def _note(self, cause: Cause) -> None:
        self.states.append(self.engine.state)
        self.causes.append(cause)
        if self._on_change is not None:
            self._on_change(cause)

    async def add(self, *sources: FeedSource) -> None:
        """All in one breath, as a session does; then whatever can go on goes on."""
        for source in sources:
            self.engine.add(source)
        await self.clock.settle()

    @property
    def items(self) -> tuple[FeedItem, ...]:
        return self.engine.state.items

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items]

    @property
    def values(self) -> dict[str, JsonValue]:
        return dict(values(self.items))

    @property
    def known(self) -> dict[str, JsonValue]:
        """The context, by the source's id (for sources that know one thing)."""
        return {str(entry.key[0]): entry.value for entry in self.engine.state.context}

    @property
    def errors(self) -> dict[str, str]:
        return {error.source_id: error.code for error in self.engine.state.errors}

    def status(self, name: str) -> SourceStatus:
        return self.engine.status(SourceId(name))

    def is_(self, name: str) -> str:
        return self.status(name).status.value

    def swap(self, source: FeedSource) -> None:
        self.engine.swap(SourceId(source.id), source)

    def remove(self, name: str) -> None:
        self.engine.remove(SourceId(name))


class MakeFeed(Protocol):
    def __call__(
        self,
        *,
        processors: Sequence[PostProcessor] = (),
        finish: Finish | None = None,
        limits: FeedLimits | None = None,
        order: Sequence[str] = (),
        on_change: Callable[[Cause], None] | None = None,
    ) -> Feed: ...


@pytest.fixture
async def scope(clock: TestClock) -> AsyncIterator[TaskScope]:
    async with create_task_group() as group:
        scope = TaskScope(group)
        yield scope
        await scope.aclose()


@pytest.fixture
async def make_feed(clock: TestClock, scope: TaskScope) -> AsyncIterator[MakeFeed]:
    """Makes engines that somebody listens to."""
    feeds: list[Feed] = []

    def make(
        *,
        processors: Sequence[PostProcessor] = (),
        finish: Finish | None = None,
        limits: FeedLimits | None = None,
        order: Sequence[str] = (),
        on_change: Callable[[Cause], None] | None = None,
    ) -> Feed:
        feed = Feed(
            clock,
            scope,
            processors=processors,
            finish=finish,
            limits=limits,
            order=order,
            on_change=on_change,
        )
        feed.engine.set_listening(True)
        feeds.append(feed)
        return feed

    yield make
    async with create_task_group() as group:
        for feed in feeds:
            group.start_soon(feed.engine.aclose)
        await clock.advance(30)  # for sources that hang when they are closed


@pytest.fixture
async def feed(make_feed: MakeFeed) -> Feed:
    """An engine without post-processors, which somebody listens to."""
    return make_feed()
