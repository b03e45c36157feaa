"""The sweeper, the pacer and the allowances: what happens later, and not too often."""

from __future__ import annotations

import pytest

from server.push.limits import Allowances, Counts, TokenBucket
from server.push.pacer import Pacer
from server.push.sweeper import Sweeper
from tests.support.clock import TestClock


class Item:
    """Notes when it is swept, and comes back when it is told to."""

    def __init__(self, clock: TestClock, *again: float) -> None:
        self.bucket = -1
        self.swept: list[float] = []
        self._clock = clock
        self._start = clock.monotonic()
        self._again = list(again)

    def sweep(self, now: float) -> float | None:
        self.swept.append(now - self._start)
        return now + self._again.pop(0) if self._again else None


async def test_an_item_is_swept_at_its_moment_or_a_bucket_later(clock: TestClock) -> None:
    sweeper, item = Sweeper(clock), Item(clock)
    sweeper.watch(item, clock.monotonic() + 10)
    await clock.advance(9.9)
    assert item.swept == []
    await clock.advance(0.5)
    assert len(item.swept) == 1
    assert 10 <= item.swept[0] <= 10.25


async def test_the_sooner_of_two_moments_wins(clock: TestClock) -> None:
    sweeper, item = Sweeper(clock), Item(clock)
    sweeper.watch(item, clock.monotonic() + 10)
    sweeper.watch(item, clock.monotonic() + 5)
    sweeper.watch(item, clock.monotonic() + 20)
    await clock.advance(30)
    assert [round(at) for at in item.swept] == [5]


async def test_an_item_comes_back_as_often_as_it_asks(clock: TestClock) -> None:
    sweeper, item = Sweeper(clock), Item(clock, 5.0, 5.0)
    sweeper.watch(item, clock.monotonic() + 5)
    await clock.advance(60)
    assert [round(at) for at in item.swept] == [5, 10, 16]


async def test_an_item_that_is_due_at_once_does_not_spin(clock: TestClock) -> None:
    sweeper, item = Sweeper(clock), Item(clock, *[0.0] * 1000)
    sweeper.watch(item, clock.monotonic())
    await clock.advance(1.0)
    assert len(item.swept) <= 5


async def test_a_forgotten_item_is_not_swept(clock: TestClock) -> None:
    sweeper, item, other = Sweeper(clock), Item(clock), Item(clock)
    sweeper.watch(item, clock.monotonic() + 5)
    sweeper.watch(other, clock.monotonic() + 5)
    sweeper.forget(item)
    sweeper.forget(item)
    await clock.advance(10)
    assert (item.swept, len(other.swept)) == ([], 1)


async def test_thousands_in_one_bucket_are_swept_in_turns(clock: TestClock) -> None:
    sweeper = Sweeper(clock)
    items = [Item(clock) for _ in range(1000)]
    for item in items:
        sweeper.watch(item, clock.monotonic() + 5)
    await clock.advance(6)
    assert all(len(item.swept) == 1 for item in items)


async def test_a_closed_sweeper_sweeps_nothing(clock: TestClock) -> None:
    sweeper, item = Sweeper(clock), Item(clock)
    sweeper.watch(item, clock.monotonic() + 5)
    sweeper.close()
    await clock.advance(10)
    assert item.swept == []
    assert item.bucket == -1


class Waiting:
    """Something with a minimal interval."""

    def __init__(self, clock: TestClock, in_s: float) -> None:
        self._clock = clock
        self._start = clock.monotonic()
        self.due_at = self._start + in_s
        self.paced = False
        self.woken: list[float] = []

    def due(self) -> None:
        self.woken.append(round(self._clock.monotonic() - self._start, 6))


async def test_the_pacer_wakes_each_at_its_own_time_and_once(clock: TestClock) -> None:
    pacer = Pacer(clock)
    late, soon = Waiting(clock, 3.0), Waiting(clock, 0.1)
    for item in (late, soon, late, soon):
        pacer.wait(item)
    await clock.advance(10)
    assert (soon.woken, late.woken) == ([0.1], [3.0])


async def test_the_pacer_passes_over_what_is_forgotten(clock: TestClock) -> None:
    pacer, item = Pacer(clock), Waiting(clock, 1.0)
    pacer.wait(item)
    pacer.forget(item)
    await clock.advance(2)
    assert item.woken == []
    pacer.wait(item)
    pacer.close()
    await clock.advance(2)
    assert item.woken == []


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(10.0, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]
    assert bucket.take(0.1) == 0.0
    assert bucket.take(0.1) == pytest.approx(0.1)
    assert not bucket.is_full(0.2)
    assert bucket.is_full(0.5)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(10.0, 3, 0.0)
    assert [bucket.take(1000.0) == 0.0 for _ in range(4)] == [True, True, True, False]


def test_a_refused_taking_takes_nothing() -> None:
    bucket = TokenBucket(10.0, 3, 0.0)
    assert bucket.take(0.0, 4) > 0
    assert bucket.take(0.0, 3) == 0.0


def test_each_publisher_has_its_own_allowance_and_full_ones_are_forgotten() -> None:
    allowances: Allowances[int] = Allowances(10.0, 5.0)
    assert allowances.take(0, 0.0, 5) == 0.0
    assert allowances.take(0, 0.0, 1) == pytest.approx(0.1)
    assert allowances.take(1, 0.0, 100) == 0.0
    for key in range(2, 5000):
        allowances.take(key, float(key), 1)
    assert len(allowances) < 2000


def test_counts_keep_nothing_of_what_is_gone() -> None:
    counts: Counts[str] = Counts()
    counts.add("a")
    counts.add("a")
    counts.drop("a")
    assert counts["a"] == 1
    counts.drop("a")
    counts.drop("never")
    assert (counts["a"], len(counts)) == (0, 0)
