"""A loop that stands still is noticed from beside it, and the log says where."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from server.loop_watchdog import Lateness, LoopWatchdog

PATIENCE_S = 20.0


def stand_still(until: Callable[[], bool]) -> None:
    """What a source must not do."""
    deadline = time.monotonic() + PATIENCE_S
    while not until() and time.monotonic() < deadline:
        time.sleep(0.001)


async def test_a_blocked_loop_is_logged_with_the_stack_and_the_task_that_blocks_it() -> None:
    watchdog = LoopWatchdog(0.05, quiet_s=0.0)
    name = "ask com.example.slow"

    def told() -> list[MutableMapping[str, Any]]:
        # A machine that is busy may hold up the loop for reasons of its own.
        return [line for line in lines if line["event"] == "loop_blocked" and line["task"] == name]

    async def source() -> None:
        stand_still(lambda: bool(told()))

    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(watchdog.run)
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as sources:
                sources.start_soon(source, name=name)
            group.cancel_scope.cancel()
    line = told()[0]
    assert line["log_level"] == "warning"
    assert line["blocked_ms"] >= 50
    assert "in stand_still" in line["stack"]
    assert watchdog.statistics().count >= 1
    assert watchdog.statistics().seconds >= 0.05


async def test_who_blocks_again_and_again_is_counted_each_time_and_logged_now_and_then() -> None:
    watchdog = LoopWatchdog(0.05, quiet_s=1000.0)
    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(watchdog.run)
            for count in range(1, 4):
                await anyio.sleep(0.03)  # the loop runs a while, and leaves a mark
                stand_still(lambda count=count: watchdog.statistics().count >= count)
            group.cancel_scope.cancel()
    assert watchdog.statistics().count >= 3
    assert [line["event"] for line in lines].count("loop_blocked") == 1


async def test_a_watchdog_that_is_turned_off_has_no_thread_and_returns() -> None:
    watchdog = LoopWatchdog(0.0)
    with anyio.fail_after(PATIENCE_S):
        await watchdog.run()
    assert watchdog.statistics().count == 0


def lateness() -> Lateness:
    """Blocked from a second on, marks and looks every quarter of one."""
    return Lateness(1.0, 0.25, 0.0, 0.0)


@pytest.mark.parametrize("mark_s", [9.0, 9.75, 10.0])
def test_a_loop_that_left_a_mark_within_the_threshold_is_not_blocked(mark_s: float) -> None:
    judge = lateness()
    judge.look(9.75, 0.1, 9.5)
    assert judge.look(10.0, 0.1, mark_s) == 0


def test_a_blocked_loop_is_late_by_more_at_each_look_until_it_leaves_a_mark() -> None:
    judge = lateness()
    times = [step / 4 for step in range(1, 13)]
    late = [judge.look(now, now, 0.5) for now in times]
    assert late[:6] == [0.0] * 6
    assert late[6:] == [1.0, 1.25, 1.5, 1.75, 2.0, 2.25]
    assert judge.look(3.25, 3.25, 3.25) == 0


def test_a_process_that_was_stopped_blames_nobody() -> None:
    judge = lateness()
    assert judge.look(60.0, 0.01, 0.0) == 0
    assert judge.look(60.25, 0.02, 0.0) == 0, "the loop has had no time yet to leave a mark"


def test_an_interpreter_that_was_held_against_the_watchdog_too_counts_as_a_block() -> None:
    judge = lateness()
    assert judge.look(5.0, 4.9, 0.0) == 4.75
