"""Wakes subscriptions with a minimal interval when they are due. One timer for all of them."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Protocol

from server.engine.clock import Clock, Timer

__all__ = ["Paced", "Pacer"]


class Paced(Protocol):
    """Something that waits until `due_at` (monotonic seconds); `paced` belongs to the pacer."""

    due_at: float
    paced: bool

    def due(self) -> None:
        """It is time. Must not raise."""
        ...


class Pacer:
    """A heap of what waits. What is forgotten stays in the heap until its time comes, and is passed over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Paced]] = []
        self._order = count()
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def wait(self, item: Paced) -> None:
        """Calls `due` at the item's `due_at`, once however often it is asked for."""
        if item.paced:
            return
        item.paced = True
        heapq.heappush(self._heap, (item.due_at, next(self._order), item))
        self._arm()

    def forget(self, item: Paced) -> None:
        """The item does not wait any more."""
        item.paced = False

    def close(self) -> None:
        """Forgets everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()

    def _arm(self) -> None:
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= first:
                return
            self._timer.cancel()
        self._timer_at = first
        self._timer = self._clock.call_later(max(0.0, first - self._clock.monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            _, _, item = heapq.heappop(self._heap)
            if item.paced:
                item.paced = False
                item.due()
        self._arm()
