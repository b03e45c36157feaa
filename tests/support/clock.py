"""Time that a test moves by hand.

A test that names the `clock` fixture runs on `VirtualLoop`: an asyncio loop with real sockets, real processes
and a time of its own, which stands still while the test thinks. `await clock.advance(30)` walks it forward
from timer to timer, and at each lets every task run until all of them wait again. So `anyio.sleep(29)` ends,
and `anyio.fail_after(31)` doesn't, on the slowest machine as on the fastest, and neither costs any real time.

Two things make it livable beside real I/O. A wait of at most `SHORT_S` (a batching window, anyio's
`wait_all_tasks_blocked`) is simply waited for, and moves the clock by exactly its length. And where nothing
at all happens for `STUCK_S` of real time, the next deadline is let pass, so that a test which would hang
fails by its own `fail_after`.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

__all__ = ["SHORT_S", "START", "STUCK_S", "TestClock", "VirtualLoop"]

SHORT_S = 0.1
STUCK_S = 20.0
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

Events = list[tuple[selectors.SelectorKey, int]]


class TestClock:
    """A `Clock` whose wall and loop time move together, when the test says so and not otherwise.

    It belongs to the loop it was made on, which must be a `VirtualLoop`.
    """

    __test__: ClassVar[bool] = False  # the name is not that of a test class

    def __init__(self, start: datetime = START) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop), (
            "a TestClock wants the test on a VirtualLoop: use the fixture `clock`"
        )
        self._loop = loop
        self._zero_s = loop.time()
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time() - self._zero_s)

    def monotonic(self) -> float:
        return self._loop.time()

    def call_later(self, delay_s: float, fn: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, fn)

    async def advance(self, seconds: float, *, quiet_s: float = 0.0) -> None:
        """Moves the time forward, stopping at every timer on the way, and returns when all tasks wait.

        Where a timer starts work that waits for the real world (a query, a socket), time would run on before
        the answer is there. `quiet_s` is how long, in real seconds, nothing may arrive from outside before
        each step.
        """
        assert seconds >= 0, "time goes forward"
        await self._loop.walk(seconds, quiet_s)

    async def advance_until(
        self, condition: Callable[[], bool], *, limit_s: float = 3600.0, quiet_s: float = 0.0
    ) -> None:
        """Moves from timer to timer until the condition holds; fails where it doesn't within `limit_s`."""
        end = self._loop.time() + limit_s
        await self._loop.walk(0.0, quiet_s)
        exhausted = False
        while not condition():
            if exhausted:
                raise AssertionError(f"the condition did not come true within {limit_s:g} s of the clock")
            exhausted = not await self._loop.walk(end - self._loop.time(), quiet_s, steps=1)

    async def settle(self, *, quiet_s: float = 0.0) -> None:
        """Lets every task run until all of them wait, without moving the time."""
        await self._loop.walk(0.0, quiet_s)

    def shift_wall(self, seconds: float) -> None:
        """Sets the wall clock forward or back, as an operator or NTP may; timers don't notice."""
        self._start += timedelta(seconds=seconds)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop behind a `TestClock`. All of it rests on one public fact: a loop asks its selector to wait
    exactly when nothing is ready to run, and says until when the next timer lets it."""

    def __init__(self) -> None:
        # Not that of the machine: code that mixes the two is to fail in the tests.
        self._now_s = 1000.0
        self._walk: _Walk | None = None
        self._stirred_at = time.monotonic()
        super().__init__(_Selector(self._idle))

    def time(self) -> float:
        return self._now_s

    async def walk(self, seconds: float, quiet_s: float, steps: int | None = None) -> bool:
        """Moves the time as `TestClock.advance` says, at most to so many timers. False: no timer was met."""
        assert self._walk is None, "the time is being moved already"
        self._walk = walk = _Walk(self.create_future(), self._now_s + seconds, quiet_s, steps)
        self._stirred_at = time.monotonic()
        try:
            await walk.done
        finally:
            self._walk = None
        return walk.met_a_timer

    def _idle(self, timeout_s: float | None, wait: Callable[[float | None], Events]) -> Events:
        """Called in place of waiting for `timeout_s` (None: no timer is set)."""
        if self._walk is None or self._walk.done.done():
            return self._stand(timeout_s, wait)
        events = wait(self._walk.quiet_s)
        if not events:
            self._now_s = self._walk.step(self._now_s, timeout_s)
        return events

    def _stand(self, timeout_s: float | None, wait: Callable[[float | None], Events]) -> Events:
        if timeout_s is None:
            return wait(None)
        stuck_in_s = max(self._stirred_at + STUCK_S - time.monotonic(), 0.0)
        events = wait(timeout_s if timeout_s <= SHORT_S else stuck_in_s)
        if events:
            self._stirred_at = time.monotonic()
        elif timeout_s <= SHORT_S or stuck_in_s == 0.0:
            self._now_s += timeout_s
        return events


class _Walk:
    """One movement of the time: where it ends, and who waits for that."""

    def __init__(self, done: asyncio.Future[None], end: float, quiet_s: float, steps: int | None) -> None:
        self.done = done
        self.quiet_s = quiet_s
        self.met_a_timer = False
        self._end = end
        self._steps = steps

    def step(self, now: float, timeout_s: float | None) -> float:
        """Everything waits: the time to go on from, that of the next timer or the end of the walk."""
        if timeout_s is not None and self._steps != 0 and now + timeout_s <= self._end + 1e-9:
            self.met_a_timer = True
            if self._steps is not None:
                self._steps -= 1
            return now + timeout_s
        self.done.set_result(None)
        return now if self._steps == 0 else self._end


class _Selector(selectors.DefaultSelector):
    """A selector that hands the decision how to wait to somebody else."""

    def __init__(self, idle: Callable[[float | None, Callable[[float | None], Events]], Events]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> Events:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        return self._idle(timeout, super().select)
