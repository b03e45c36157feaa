"""freya.synthetic: what it shows follows from its config and the clock alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from protocol.feed import ContextEntry, FeedItem
from server.engine.source import Answer
from server.sources.builtin import builtin_providers
from server.sources.services import SourceOptions
from server.sources.synthetic import (
    SYNTHETIC_ID,
    Metronome,
    SyntheticConfig,
    SyntheticSource,
    due_at,
    item_data,
    last_tick_of,
    tick_at,
)
from tests.support.clock import TestClock


def synthetic(**config: float) -> SyntheticConfig:
    """A config as it comes over the wire."""
    return SyntheticConfig.model_validate(config)


class Handle:
    """The engine, as far as this source sees it."""

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock
        self.reports: list[tuple[FeedItem, ...]] = []

    def push_context(self, entries: Sequence[ContextEntry]) -> None:
        raise AssertionError("it has no context")

    def push_items(self, items: Answer | Sequence[FeedItem]) -> None:
        assert not isinstance(items, Answer)
        self.reports.append(tuple(items))

    def request_refresh(self) -> None:
        raise AssertionError("it is never asked")

    def now(self) -> datetime:
        return self._clock.now()


def attached(
    clock: TestClock, metronome: Metronome, config: SyntheticConfig
) -> tuple[SyntheticSource, Handle]:
    source, handle = SyntheticSource(config, metronome), Handle(clock)
    source.attach(handle)
    return source, handle


def expected(config: SyntheticConfig, tick: int) -> list[Mapping[str, object]]:
    return [item_data(config, last_tick_of(config, index, tick)) for index in range(config.items)]


async def test_a_tick_changes_one_item_and_leaves_the_others_the_same_objects(clock: TestClock) -> None:
    config = synthetic(items=4, ratePerS=2, seed=3)
    metronome = Metronome(clock)
    _, handle = attached(clock, metronome, config)
    await clock.advance(5)
    metronome.close()

    assert len(handle.reports) == 11
    for before, after in zip(handle.reports, handle.reports[1:], strict=False):
        assert sum(was is not now for was, now in zip(before, after, strict=True)) == 1


async def test_any_state_follows_from_the_number_of_its_last_tick(clock: TestClock) -> None:
    config = synthetic(items=3, bytes=50, ratePerS=1, seed=9)
    metronome = Metronome(clock)
    _, handle = attached(clock, metronome, config)
    await clock.advance(7)
    metronome.close()

    for items in handle.reports:
        tick = max(int(str(item.data["tick"])) for item in items)
        assert [dict(item.data) for item in items] == expected(config, tick)
    last = handle.reports[-1]
    assert max(int(str(item.data["tick"])) for item in last) == tick_at(config, clock.now().timestamp())


async def test_ticks_that_were_missed_are_reported_once_with_the_moments_at_which_they_were_due(
    clock: TestClock,
) -> None:
    config = synthetic(items=8, ratePerS=10)
    metronome = Metronome(clock)
    source, handle = attached(clock, metronome, config)
    begin = tick_at(config, clock.now().timestamp())

    source.tick(due_at(config, begin + 3) + 0.05)
    metronome.close()

    assert len(handle.reports) == 2
    assert [dict(item.data) for item in handle.reports[1]] == expected(config, begin + 3)
    newest = handle.reports[1][(begin + 3) % 8]
    assert newest.timestamp == datetime.fromtimestamp(due_at(config, begin + 3), UTC)


async def test_without_a_rate_nothing_changes(clock: TestClock) -> None:
    metronome = Metronome(clock)
    _, handle = attached(clock, metronome, synthetic(ratePerS=0))
    await clock.advance(60)
    assert len(handle.reports) == 1


async def test_a_closed_source_ticks_no_more_and_the_others_go_on(clock: TestClock) -> None:
    metronome = Metronome(clock)
    ended, nothing = attached(clock, metronome, synthetic(seed=1))
    _, going = attached(clock, metronome, synthetic(seed=2))
    await ended.aclose()
    await clock.advance(3)
    metronome.close()
    assert len(nothing.reports) == 1
    assert len(going.reports) == 4


@pytest.mark.parametrize("offered", [False, True])
def test_it_is_offered_only_where_the_operator_wants_it(offered: bool) -> None:
    names = [provider.source_id for provider in builtin_providers(SourceOptions(synthetic=offered))]
    assert (SYNTHETIC_ID in names) is offered
