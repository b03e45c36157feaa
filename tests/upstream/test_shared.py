"""Values that many ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from server.engine.source import RateLimited, SourceFailure, Unreachable
from server.upstream.shared import Shared
from tests.support.clock import TestClock


class Upstream:
    """Answers with numbers, one more each time, or fails as it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.before: list[str | None] = []
        self.failure: Exception | None = None

    def load(self, key: str) -> Callable[[str | None], Awaitable[str]]:
        async def load(before: str | None) -> str:
            self.calls.append(key)
            self.before.append(before)
            await anyio.lowlevel.checkpoint()
            if self.failure is not None:
                raise self.failure
            return f"{key}{len(self.calls)}"

        return load


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


async def test_a_value_is_loaded_once_while_it_is_fresh(clock: TestClock, upstream: Upstream) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60)
    for _ in range(3):
        assert await shared.get(clock, "a", upstream.load("a")) == "a1"
        await clock.advance(19.9)
    await clock.advance(1)
    assert await shared.get(clock, "a", upstream.load("a")) == "a2"
    assert upstream.before == [None, "a1"]


async def test_all_who_ask_while_it_is_loaded_get_the_one_answer(
    clock: TestClock, upstream: Upstream
) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60)
    values: list[str] = []

    async def ask() -> None:
        values.append(await shared.get(clock, "a", upstream.load("a")))

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(ask)
    assert (set(values), len(values)) == ({"a1"}, 1000)
    statistics = shared.statistics()
    assert (statistics.loads, statistics.joined, statistics.hits) == (1, 999, 0)


async def test_a_failure_is_kept_for_a_while_so_that_nobody_is_stormed(
    clock: TestClock, upstream: Upstream
) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60, failure_s=15)
    upstream.failure = Unreachable("away")
    for _ in range(10):
        with pytest.raises(Unreachable):
            await shared.get(clock, "a", upstream.load("a"))
    assert len(upstream.calls) == 1
    await clock.advance(5)
    with pytest.raises(Unreachable) as caught:
        await shared.get(clock, "a", upstream.load("a"))
    assert caught.value.retry_after_s == pytest.approx(10)
    upstream.failure = None
    await clock.advance(11)
    assert await shared.get(clock, "a", upstream.load("a")) == "a2"


async def test_an_upstream_that_asks_to_be_left_alone_is(clock: TestClock, upstream: Upstream) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60, failure_s=15)
    upstream.failure = RateLimited("slow down", retry_after_s=300)
    for _ in range(10):
        with pytest.raises(RateLimited):
            await shared.get(clock, "a", upstream.load("a"))
        await clock.advance(29)
    assert len(upstream.calls) == 1


async def test_a_failure_does_not_make_the_last_value_forgotten(clock: TestClock, upstream: Upstream) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60, failure_s=1)
    await shared.get(clock, "a", upstream.load("a"))
    upstream.failure = Unreachable("away")
    await clock.advance(61)
    with pytest.raises(Unreachable):
        await shared.get(clock, "a", upstream.load("a"))
    upstream.failure = None
    await clock.advance(2)
    await shared.get(clock, "a", upstream.load("a"))
    assert upstream.before == [None, "a1", "a1"]


async def test_a_mistake_of_ours_reaches_the_first_as_it_is_and_the_others_in_safe_words(
    clock: TestClock, upstream: Upstream
) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60)
    upstream.failure = KeyError("hush")
    raised: list[Exception] = []

    async def ask() -> None:
        try:
            await shared.get(clock, "a", upstream.load("a"))
        except Exception as failure:
            raised.append(failure)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    kinds = sorted(type(failure).__name__ for failure in raised)
    assert kinds == ["KeyError", "SourceFailure", "SourceFailure"]
    assert all("hush" not in failure.message for failure in raised if isinstance(failure, SourceFailure))


async def test_the_next_in_line_loads_where_the_first_is_cancelled(
    clock: TestClock, upstream: Upstream
) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60)
    values: list[str] = []

    async def ask() -> None:
        values.append(await shared.get(clock, "a", upstream.load("a")))

    async with anyio.create_task_group() as others, anyio.create_task_group() as first:
        first.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        for _ in range(3):
            others.start_soon(ask)
        first.cancel_scope.cancel()
    assert values == ["a2"] * 3
    assert shared.statistics().loads == 2


async def test_the_number_of_keys_has_a_bound_and_the_least_wanted_goes(
    clock: TestClock, upstream: Upstream
) -> None:
    shared: Shared[str, str] = Shared(fresh_s=60, most=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        await shared.get(clock, key, upstream.load(key))
    assert upstream.calls == ["a", "b", "c", "b"]
    assert shared.statistics().held == 2


async def test_the_weight_has_a_bound_and_is_kept_in_step(clock: TestClock) -> None:
    shared: Shared[int, bytes] = Shared(fresh_s=60, weigh=len, most_bytes=1000)

    async def get(key: int, size: int) -> None:
        async def load(before: bytes | None) -> bytes:
            return b"x" * size

        await shared.get(clock, key, load)

    await get(1, 400)
    await get(2, 500)
    assert shared.statistics().held_bytes == 900
    await get(3, 300)
    assert (shared.statistics().held, shared.statistics().held_bytes) == (2, 800)
    shared.forget(2)
    shared.forget(2)
    assert shared.statistics().held_bytes == 300
    await get(4, 5000)
    assert (shared.statistics().held, shared.statistics().held_bytes) == (0, 0)


async def test_how_long_a_value_is_fresh_may_be_up_to_the_value(clock: TestClock, upstream: Upstream) -> None:
    shared: Shared[str, str] = Shared(fresh_s=lambda value: 10.0 if value == "a1" else 100.0)
    for _ in range(4):
        await shared.get(clock, "a", upstream.load("a"))
        await clock.advance(20)
    assert len(upstream.calls) == 2
