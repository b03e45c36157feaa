"""Calls that are far away, many thousands of them, under one timer of the event loop."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import Final

__all__ = ["DistantCall", "DistantCalls"]

# Timers ring early by up to the loop's resolution, a millisecond.
_EARLY_S: Final = 0.001
# Calls begun in one turn of the loop, each of which may be a session's whole change.
_AT_ONCE: Final = 100
# Fewer that were taken back are not worth going through the others for.
_FEW: Final = 100


class DistantCall:
    """One of them: a `Timer`."""

    __slots__ = ("calls", "fn")

    def __init__(self, calls: DistantCalls, fn: Callable[[], object]) -> None:
        self.calls: DistantCalls | None = calls
        """None once its time has come: it is about to be made, and can still be taken back."""
        self.fn: Callable[[], object] | None = fn
        """None once it has been made or taken back."""

    def cancel(self) -> None:
        """See Timer."""
        if self.fn is not None:
            self.fn = None
            if self.calls is not None:
                self.calls.forget_one()

    def make(self) -> None:
        """Makes the call, unless it was taken back."""
        fn, self.fn = self.fn, None
        if fn is not None:
            fn()


class DistantCalls:
    """The calls of one loop, in a heap. What one of them raises is the loop's to report."""

    __slots__ = ("_cancelled", "_heap", "_loop", "_order", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, DistantCall]] = []
        self._order = count()
        self._cancelled = 0  # of those in the heap
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        """How many are kept, with those taken back of which nothing is left but their place."""
        return len(self._heap)

    def add(self, at: float, fn: Callable[[], object]) -> DistantCall:
        """Calls `fn` on the loop at that moment of `time.monotonic`, or a little later."""
        call = DistantCall(self, fn)
        heapq.heappush(self._heap, (at, next(self._order), call))
        self._arm()
        return call

    def forget_one(self) -> None:
        """One was taken back. Its place is given up when many have been, or when its time has come."""
        self._cancelled += 1
        if self._cancelled > _FEW and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].fn is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _arm(self) -> None:
        at = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = monotonic() + _EARLY_S
        left = _AT_ONCE
        while self._heap and self._heap[0][0] <= now and left:
            _, _, call = heapq.heappop(self._heap)
            call.calls = None
            if call.fn is None:
                self._cancelled -= 1
            else:
                left -= 1
                self._loop.call_soon(call.make)  # so that one that raises hurts no other
        if self._heap:
            self._arm()
