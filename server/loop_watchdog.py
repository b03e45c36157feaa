"""Says where the event loop stands still: what blocks it cannot say so, and a slow page of figures comes too
late.

The loop leaves a mark several times within the time that it may be blocked; a thread looks whether the mark
is fresh, and where it is not, logs the stack of the loop's thread as it is at that moment.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, process_time
from typing import Final

import anyio
import anyio.to_thread
import structlog

__all__ = ["Lateness", "LoopBlocks", "LoopWatchdog"]

_MARKS: Final = 4
"""Within the threshold: a block is noticed when it is a quarter longer than that, at the latest."""
_QUIET_S: Final = 10.0
"""Between two lines: who blocks the loop once does it a thousand times."""
_FRAMES: Final = 40
_JOIN_S: Final = 1.0
# Where a thread is that waits for events: in uvloop's own code, which has no frame, or in a selector.
_RESTING: Final = frozenset({"asyncio.runners", "selectors"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoopBlocks:
    """Since the start."""

    count: int
    seconds: float
    """How long they lasted together, to within a fraction of the threshold each."""


class LoopWatchdog:
    """Watches one loop. `blocked_s` is how long it may run without a pause; 0 turns the watchdog off."""

    def __init__(self, blocked_s: float, *, quiet_s: float = _QUIET_S) -> None:
        self._blocked_s = blocked_s
        self._every_s = blocked_s / _MARKS
        self._quiet_s = quiet_s
        self._mark_s = 0.0
        self._over = threading.Event()
        # From here on only the thread's. The others read single numbers.
        self._count = 0
        self._seconds = 0.0
        self._unreported = 0
        self._spoke_s = -quiet_s

    async def run(self) -> None:
        """Watches the loop that it runs on until cancelled; returns at once where it is turned off."""
        if self._blocked_s <= 0:
            return
        loop, ident = asyncio.get_running_loop(), threading.get_ident()
        self._mark_s = monotonic()
        thread = threading.Thread(
            target=self._watch, args=(lambda: _task(loop), ident), name="loop-watchdog", daemon=True
        )
        thread.start()
        try:
            while True:
                await anyio.sleep(self._every_s)
                self._mark_s = monotonic()
        finally:
            self._over.set()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(thread.join, _JOIN_S)

    def statistics(self) -> LoopBlocks:
        """What was seen so far."""
        return LoopBlocks(self._count, self._seconds)

    # In the thread

    def _watch(self, task: Callable[[], str | None], ident: int) -> None:
        lateness = Lateness(self._blocked_s, self._every_s, monotonic(), process_time())
        lasted_s, began_s, told = 0.0, -1.0, False
        while not self._over.wait(self._every_s):
            now_s = monotonic()
            late_s = lateness.look(now_s, process_time(), self._mark_s)
            if late_s > 0 and _rests(ident):
                continue  # it has nothing to do but to leave its mark: the machine has no time for it
            is_another = lateness.mark_s != began_s
            if told and (late_s == 0 or is_another):
                _log.warning("loop_goes_on", blocked_ms=round(lasted_s * 1000))
                told = False
            if late_s > 0:
                if is_another:
                    lasted_s, began_s = 0.0, lateness.mark_s
                    self._count += 1
                    self._unreported += 1
                self._seconds += late_s - lasted_s
                lasted_s = late_s
                told = self._tell(now_s, late_s, task, ident) or told

    def _tell(self, now_s: float, late_s: float, task: Callable[[], str | None], ident: int) -> bool:
        if now_s - self._spoke_s < self._quiet_s:
            return False
        frame = sys._current_frames().get(ident)  # pyright: ignore[reportPrivateUsage] -- documented; there is no other
        stack = "" if frame is None else "".join(traceback.format_stack(frame, _FRAMES)).rstrip()
        _log.warning(
            "loop_blocked",
            blocked_ms=round(late_s * 1000),
            task=task(),
            blocks=self._unreported,
            stack=stack,
        )
        self._spoke_s, self._unreported = now_s, 0
        return True


class Lateness:
    """For how long a loop has been standing still, from the marks that it leaves every `every_s`."""

    def __init__(self, blocked_s: float, every_s: float, now_s: float, cpu_s: float) -> None:
        self._blocked_s = blocked_s
        self._every_s = every_s
        self._looked_s = self._since_s = now_s
        self._cpu_s = cpu_s
        self.mark_s = now_s
        """The last one, as of the last look."""

    def look(self, now_s: float, cpu_s: float, mark_s: float) -> float:
        """How long the loop has not left a mark where it should have; 0 where that is no longer than it may.

        `cpu_s` is the processor time of the whole process. A look that comes late itself, while nothing ran,
        means that the process was stopped or the machine slept, for which nobody here can be blamed. Where
        the processor was used, somebody held the interpreter against both threads, which is a block too.
        """
        slept_s = now_s - self._looked_s
        if slept_s > self._blocked_s and cpu_s - self._cpu_s < slept_s / 2:
            self._since_s = now_s
        self._looked_s, self._cpu_s = now_s, cpu_s
        self.mark_s = max(mark_s, self._since_s)
        late_s = now_s - self.mark_s - self._every_s
        return late_s if late_s >= self._blocked_s else 0.0


def _rests(ident: int) -> bool:
    """Whether that thread is in nobody's code but the event loop's own."""
    frame = sys._current_frames().get(ident)  # pyright: ignore[reportPrivateUsage] -- documented; there is no other
    return frame is not None and frame.f_globals.get("__name__") in _RESTING


def _task(loop: asyncio.AbstractEventLoop) -> str | None:
    """The name of what runs there: a source that is asked is called so."""
    running = asyncio.current_task(loop)
    return None if running is None else running.get_name()
