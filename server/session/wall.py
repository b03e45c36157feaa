"""Notices that the wall clock was set: by hand, by a time server, by a machine that slept.

Timers count what has really passed, and the moments that they stand for are the wall clock's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from server.engine.clock import Clock
from server.session.user_session import UserSession

__all__ = ["WallClock"]

# A time server that pulls at the clock gently does no harm.
_STEP_S: Final = 1.0
# So that twenty thousand sessions do not all look at one moment.
_APART_S: Final = 0.0005

_log = structlog.stdlib.get_logger(__name__)


class WallClock:
    """What the two hands of a clock showed when it was last looked at."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = self._ahead()

    def look(self, sessions: Sequence[UserSession]) -> float:
        """By how much the wall clock was set since the last look (s); 0 for less than a second. If it was,
        the sessions look what has come due.
        """
        before, self._ahead_s = self._ahead_s, self._ahead()
        by_s = self._ahead_s - before
        if abs(by_s) < _STEP_S:
            return 0.0
        _log.warning("wall_clock_set", by_s=round(by_s, 3))
        for number, session in enumerate(sessions):
            session.engine.wall_clock_set(number * _APART_S)
        return by_s

    def _ahead(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()
