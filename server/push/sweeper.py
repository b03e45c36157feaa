"""One timer for everything on the push side that happens later: heartbeats, deadlines, expiry, stalls.

What is swept waits in coarse buckets; the sweeper wakes for the earliest one only. Being late by a bucket
is fine for all of it, and the commonest event, traffic on a socket, needs no call here at all: whoever is
swept looks at its own clocks then and says when to come back.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from server.engine.clock import Clock, Timer

__all__ = ["Swept", "Sweeper"]

# Several thousand heartbeats may fall into one bucket; this many run before the loop gets its turn.
_AT_ONCE = 250
_IDLE = -1


class Swept(Protocol):
    """Something that has deadlines. `bucket` belongs to the sweeper; it begins as -1."""

    bucket: int

    def sweep(self, now: float) -> float | None:
        """Does what is due at `now` (monotonic) and returns when to come back; None: never.

        Must not raise. It may be called early.
        """
        ...


class Sweeper:
    """Calls `sweep` of what it watches, a bucket after the moment asked for at the latest."""

    def __init__(self, clock: Clock, *, quantum_s: float = 0.25) -> None:
        self._clock = clock
        self._quantum_s = quantum_s
        self._buckets: dict[int, set[Swept]] = {}
        self._heap: list[int] = []
        self._timer: Timer | None = None
        self._timer_bucket = 0

    def watch(self, item: Swept, at: float) -> None:
        """Sweeps the item at `at` (monotonic seconds). An item waits once: the sooner moment wins."""
        bucket = int(at / self._quantum_s) + 1
        if item.bucket != _IDLE:
            if item.bucket <= bucket:
                return
            self.forget(item)
        item.bucket = bucket
        waiting = self._buckets.get(bucket)
        if waiting is None:
            waiting = self._buckets[bucket] = set()
            heapq.heappush(self._heap, bucket)
            self._arm()
        waiting.add(item)

    def forget(self, item: Swept) -> None:
        """The item is swept no more. Does nothing if it isn't waiting."""
        waiting = self._buckets.get(item.bucket)
        if waiting is not None:
            waiting.discard(item)
        item.bucket = _IDLE

    def close(self) -> None:
        """Forgets everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting in self._buckets.values():
            for item in waiting:
                item.bucket = _IDLE
        self._buckets.clear()
        self._heap.clear()

    def _arm(self) -> None:
        if not self._heap:
            return
        first = self._heap[0]
        if self._timer is not None:
            if self._timer_bucket <= first:
                return
            self._timer.cancel()
        self._timer_bucket = first
        delay_s = first * self._quantum_s - self._clock.monotonic()
        self._timer = self._clock.call_later(max(0.0, delay_s), self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        left = _AT_ONCE
        while self._heap and self._heap[0] * self._quantum_s <= now and left:
            waiting = self._buckets[self._heap[0]]
            while waiting and left:
                left -= 1
                item = waiting.pop()
                item.bucket = _IDLE
                again = item.sweep(now)
                # What comes due in this very bucket waits for the next one: no item spins here.
                if again is not None:
                    self.watch(item, max(again, now))
            if not waiting:
                del self._buckets[heapq.heappop(self._heap)]
        self._arm()
