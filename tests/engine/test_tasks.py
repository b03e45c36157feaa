"""Tasks that end together, and never with somebody else."""

from __future__ import annotations

from asyncio import CancelledError

import anyio
import pytest

from server.engine import SystemClock, TaskScope
from server.engine.clock import expire_after
from tests.support.clock import TestClock


async def test_a_scope_counts_what_runs_and_has_nothing_when_nothing_does(
    scope: TaskScope, clock: TestClock
) -> None:
    gate = anyio.Event()
    scope.start(gate.wait)
    scope.start(gate.wait)
    assert scope.count == 2
    gate.set()
    await clock.settle()
    assert scope.count == 0


class Wild(BaseException):
    pass


@pytest.mark.parametrize("raised", [ValueError("x"), Wild("x"), CancelledError("of somebody else's task")])
async def test_what_leaves_a_task_ends_neither_the_group_nor_other_tasks(
    scope: TaskScope, clock: TestClock, raised: BaseException
) -> None:
    gate, reached = anyio.Event(), anyio.Event()

    async def fail() -> None:
        raise raised

    async def live_on() -> None:
        await gate.wait()
        reached.set()

    scope.start(live_on)
    scope.start(fail)
    await clock.settle()
    assert scope.count == 1
    gate.set()
    with anyio.fail_after(5):
        await reached.wait()


async def test_aclose_cancels_all_and_waits_until_they_have_ended(scope: TaskScope, clock: TestClock) -> None:
    ended: list[int] = []

    async def slow_to_end(n: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                ended.append(n)

    for n in range(3):
        scope.start(slow_to_end, n)
    await clock.settle()
    await scope.aclose()
    assert sorted(ended) == [0, 1, 2]
    assert scope.count == 0
    await scope.aclose()


async def test_a_task_that_had_not_begun_gets_no_further_than_its_first_wait(
    scope: TaskScope, clock: TestClock
) -> None:
    passed: list[str] = []

    async def work() -> None:
        passed.append("begun")
        await anyio.lowlevel.checkpoint()
        passed.append("went on")

    scope.start(work)
    await scope.aclose()
    scope.start(work)
    await clock.settle()
    assert "went on" not in passed
    assert scope.count == 0


async def test_a_task_may_close_its_own_scope(scope: TaskScope, clock: TestClock) -> None:
    done, other_ended = anyio.Event(), anyio.Event()

    async def other() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            other_ended.set()

    async def closer() -> None:
        await scope.aclose()
        assert other_ended.is_set()
        done.set()

    scope.start(other)
    await clock.settle()
    scope.start(closer)
    with anyio.fail_after(5):
        await done.wait()


async def test_one_task_can_be_cancelled_alone(scope: TaskScope, clock: TestClock) -> None:
    gate = anyio.Event()
    one = scope.start(gate.wait)
    scope.start(gate.wait)
    await clock.settle()
    one.cancel()
    await clock.settle()
    assert scope.count == 1


async def test_the_end_of_the_group_is_the_end_of_its_tasks(clock: TestClock) -> None:
    scopes: list[TaskScope] = []
    async with anyio.create_task_group() as group:
        scopes.append(TaskScope(group))
        scopes[0].start(anyio.sleep_forever)
        await clock.settle()
        group.cancel_scope.cancel()
    assert scopes[0].count == 0


async def test_patience_ends_by_the_clock_it_was_given(clock: TestClock) -> None:
    caught: list[bool] = []

    async def patient() -> None:
        with expire_after(clock, 30) as scope:
            await anyio.sleep_forever()
        caught.append(scope.cancelled_caught)

    async with anyio.create_task_group() as group:
        group.start_soon(patient)
        await clock.advance(29.9)
        assert caught == []
        await clock.advance(0.2)
        assert caught == [True]
    left_in_time: list[anyio.CancelScope] = []
    with expire_after(clock, 1) as in_time:
        left_in_time.append(in_time)
    await clock.advance(2)
    assert not left_in_time[0].cancel_called


async def test_the_system_clock_is_in_utc_and_calls_later() -> None:
    clock = SystemClock()
    offset = clock.now().utcoffset()
    assert offset is not None
    assert not offset
    called, taken_back = anyio.Event(), anyio.Event()
    before = clock.monotonic()
    clock.call_later(-1, called.set)
    clock.call_later(0.001, taken_back.set).cancel()
    assert not called.is_set()
    with anyio.fail_after(5):
        await called.wait()
    assert clock.monotonic() >= before
    later = anyio.Event()
    clock.call_later(0.002, later.set)
    with anyio.fail_after(5):
        await later.wait()
    assert not taken_back.is_set()
