"""Time as the engine sees it: a seam, so that tests turn the hands themselves.

Nothing in a feed reads the time in any other way, timeouts included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Final, Protocol

from anyio import CancelScope

from server.engine.distant import DistantCalls

__all__ = ["Clock", "SystemClock", "Timer", "expire_after"]

# Also longer than any trail lasts: a shared timer runs in the context of whoever set it.
_DISTANT_S: Final = 60.0


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Takes the call back. Harmless when it has been made, or was taken back before."""
        ...


class Clock(Protocol):
    """Two hands and an alarm. `monotonic` never goes back and has no meaning but in differences."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an unnamed beginning."""
        ...

    def call_later(self, delay_s: float, fn: Callable[[], object]) -> Timer:
        """Calls `fn` on the event loop after `delay_s` seconds, never before this call has returned."""
        ...


class SystemClock:
    """The real time, and the alarm of the running event loop.

    Calls that are a minute away or more share one timer of the loop: every idle session has one, and a timer
    of the loop is 1 KiB.
    """

    __slots__ = ("_distant", "_loop")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._distant: DistantCalls | None = None

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an unnamed beginning."""
        return monotonic()

    def call_later(self, delay_s: float, fn: Callable[[], object]) -> Timer:
        """Calls `fn` on the running event loop after `delay_s` seconds."""
        loop = asyncio.get_running_loop()
        if delay_s < _DISTANT_S:
            return loop.call_later(max(0.0, delay_s), fn)
        if self._distant is None or self._loop is not loop:
            self._loop, self._distant = loop, DistantCalls(loop)
        return self._distant.add(monotonic() + delay_s, fn)


@contextmanager
def expire_after(clock: Clock, seconds: float) -> Generator[CancelScope]:
    """`anyio.move_on_after` by a clock of ours: afterwards `cancelled_caught` says whether time ran out."""
    with CancelScope() as scope:
        timer = clock.call_later(seconds, scope.cancel)
        try:
            yield scope
        finally:
            timer.cancel()
