"""How late the event loop is, and how long it stands still to collect garbage.

One sample every half second: a callback that should run then, and when it did. After start, what the
process is made of is frozen out of the collector's sight, so that a full collection does not walk it
again and again. What makes the loop late, when it is, `loop_watchdog` says.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import anyio

from server.loop_watchdog import LoopBlocks, LoopWatchdog
from server.push.counters import Histogram, HistogramValue

__all__ = ["LoopStatistics", "LoopWatch", "settle_memory"]

_EVERY_S = 0.5
_RECENT = 120
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

# The young are looked at 1,000 at a time, and twice: short pauses. Sessions and items live long, and the
# circles that they are in are cut where they end. Everything is looked at only after ten thousand such
# rounds, and by the interpreter's own rule only where what is new has become a quarter of it. That stands the
# loop still for as long as there are users (at 5,000 of them more than half a second), and is there for the
# circles of others' code. `MemoryWatch` asks for it earlier where the memory is needed.
_THRESHOLDS = (1_000, 2, 10_000)


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """Since the start."""

    lag: HistogramValue
    gc_pause: HistogramValue
    blocks: LoopBlocks
    tasks: int
    """As of now; 0 where the loop is not being watched."""


class LoopWatch:
    """Watches the loop it runs on, and this process's collector.

    `blocked_s` is from when on a loop that stands still is worth a line of the log, with its stack; 0: never.
    """

    def __init__(self, blocked_s: float = 0.0) -> None:
        self._watchdog = LoopWatchdog(blocked_s)
        self._lag = Histogram(_BOUNDS_S)
        self._pause = Histogram(_BOUNDS_S)
        self._began = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Watches until cancelled."""
        self._loop = asyncio.get_running_loop()
        gc.callbacks.append(self._on_gc)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watchdog.run)
                await self._sample()
        finally:
            gc.callbacks.remove(self._on_gc)

    def statistics(self) -> LoopStatistics:
        """What was seen so far."""
        return LoopStatistics(self._lag.value, self._pause.value, self._watchdog.statistics(), self._tasks())

    def late_ms(self) -> float:
        """The worst of the last minute, all but the one in a hundred that is chance."""
        late = sorted(self._recent)
        return round(late[int(len(late) * 0.99)] * 1000, 2) if late else 0.0

    def _tasks(self) -> int:
        return 0 if self._loop is None else len(asyncio.all_tasks(self._loop))

    async def _sample(self) -> None:
        while True:
            due = anyio.current_time() + _EVERY_S
            await anyio.sleep_until(due)
            late_s = max(0.0, anyio.current_time() - due)
            self._lag.record(late_s)
            self._recent.append(late_s)

    def _on_gc(self, phase: Literal["start", "stop"], _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self._pause.record(perf_counter() - self._began)


def settle_memory() -> None:
    """Called once everything is built: what is there now stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
