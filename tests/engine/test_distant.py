"""Far calls under one timer of the loop."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic

import anyio
import pytest

from server.engine.clock import SystemClock
from server.engine.distant import DistantCalls


@pytest.fixture
async def calls() -> DistantCalls:
    return DistantCalls(asyncio.get_running_loop())


async def test_each_is_made_in_its_order_and_not_before_its_time(calls: DistantCalls) -> None:
    made: list[tuple[str, float]] = []
    done = anyio.Event()
    began = monotonic()
    for name, after_s in (("last", 0.12), ("first", 0.04), ("second", 0.08)):
        calls.add(began + after_s, lambda name=name: made.append((name, monotonic() - began)))
    calls.add(began + 0.13, done.set)
    with anyio.fail_after(20):
        await done.wait()
    assert [name for name, _ in made] == ["first", "second", "last"]
    assert all(at >= due - 0.002 for (_, at), due in zip(made, (0.04, 0.08, 0.12), strict=True))


async def test_one_that_was_taken_back_is_not_made(calls: DistantCalls) -> None:
    made: list[str] = []
    done = anyio.Event()
    kept = calls.add(monotonic() + 0.02, partial(made.append, "kept"))
    calls.add(monotonic() + 0.01, partial(made.append, "taken back")).cancel()
    calls.add(monotonic() + 0.03, done.set)
    with anyio.fail_after(20):
        await done.wait()
    assert made == ["kept"]
    kept.cancel()  # it has been made: harmless
    assert len(calls) == 0


async def test_those_taken_back_do_not_pile_up(calls: DistantCalls) -> None:
    staying = [calls.add(monotonic() + 1000.0, lambda: None) for _ in range(10)]
    for _ in range(5000):
        calls.add(monotonic() + 2000.0, lambda: None).cancel()
    assert len(calls) < 300
    for call in staying:
        call.cancel()


async def test_one_that_raises_hurts_no_other(calls: DistantCalls) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    done = anyio.Event()
    wrong = ValueError("wrong")

    def fail() -> None:
        raise wrong

    calls.add(monotonic() + 0.01, fail)
    calls.add(monotonic() + 0.01, done.set)
    with anyio.fail_after(20):
        await done.wait()
    assert told == [wrong]


async def test_a_storm_of_them_is_made_over_several_turns_of_the_loop(calls: DistantCalls) -> None:
    made: list[int] = []
    done = anyio.Event()
    for number in range(350):
        calls.add(monotonic() - 1.0, partial(made.append, number))
    calls.add(monotonic(), done.set)
    with anyio.fail_after(20):
        await done.wait()
    assert made == list(range(350))


async def test_the_clock_keeps_near_calls_and_far_ones_alike() -> None:
    clock = SystemClock()
    made: list[str] = []
    done = anyio.Event()
    far = clock.call_later(3600.0, partial(made.append, "far"))
    clock.call_later(0.01, done.set)
    with anyio.fail_after(20):
        await done.wait()
    far.cancel()
    far.cancel()
    assert not made


async def test_one_that_is_taken_back_by_another_of_the_same_moment_is_not_made(calls: DistantCalls) -> None:
    made: list[str] = []
    done = anyio.Event()
    at = monotonic() + 0.01

    def first() -> None:
        made.append("first")
        second.cancel()

    calls.add(at, first)
    second = calls.add(at, partial(made.append, "second"))
    calls.add(at + 0.01, done.set)
    with anyio.fail_after(20):
        await done.wait()
    assert made == ["first"]
    assert len(calls) == 0
