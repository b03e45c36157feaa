"""The one timer of an engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from server.engine.clock import Clock, Timer

__all__ = ["Alarm"]

# The wall clock may be set while we sleep; and event loops refuse very long timers.
_LONGEST_S: Final = 3600.0
_NEVER: Final = float("inf")


class Alarm:
    """Calls `ring` at the earliest moment it was set to; late by nothing, early now and then.

    Setting it to a later moment than it has changes nothing: whoever is rung looks what is due, and sets it
    again. So a change costs no timer of its own unless it brings the next ring forward.
    """

    __slots__ = ("_at", "_clock", "_ring", "_timer", "_wall", "rings")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._at = 0.0
        self._wall: datetime | None = None  # the timer rings by then
        self.rings = 0

    def set(self, moment_s: float) -> None:
        """By the clock's `monotonic`; infinity is never."""
        if moment_s == _NEVER:
            return
        now = self._clock.monotonic()
        at = min(moment_s, now + _LONGEST_S)
        if self._timer is not None:
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = self._clock.call_later(max(0.0, at - now), self._on_timer)

    def set_wall(self, moment: datetime | None) -> None:
        """By the clock's `now`; None is never."""
        if moment is None:
            return
        if self._timer is not None and self._wall is not None and self._wall <= moment:
            return  # as most changes do, it names a moment that was set before
        self._wall = moment
        self.set(self._clock.monotonic() + (moment - self._clock.now()).total_seconds())

    def hurry(self, in_s: float) -> None:
        """Rings after so long at the latest, if it is to ring at all: the wall clock has been set."""
        if self._timer is not None:
            self.set(self._clock.monotonic() + in_s)

    def cancel(self) -> None:
        """Rings no more until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._wall = None

    def close(self) -> None:
        """Rings no more, and lets go of whom it rang."""
        self.cancel()
        self._ring = _nobody

    def _on_timer(self) -> None:
        self._timer = self._wall = None
        self.rings += 1
        self._ring()


def _nobody() -> None:
    """There is nobody to ring any more."""
