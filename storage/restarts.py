"""When a database of our own that has died is started again. Pure: nothing here waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["Happening", "Incident", "Restarts"]

Happening: TypeAlias = Literal["gone", "back", "failed"]

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_WELL_S: Final = 60.0
_IN_A_ROW: Final = 10
_SELDOM_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Incident:
    """What was found or done."""

    what: Happening
    attempt: int
    """Which one in a row it is; 0 before the first."""
    reason: str | None = None


class Restarts:
    """Counts attempts in a row. A database that has stayed up for a minute has earned a new one."""

    def __init__(self) -> None:
        self.attempts = 0
        self._up_since_s: float | None = None

    def went(self, now_s: float) -> float:
        """It is gone: the pause before the next attempt. None the first time, then doubled, up to half a
        minute. After ten in vain something is wrong that takes a person, such as a full disk; one more every
        five minutes sees that it has been mended.
        """
        if self._up_since_s is not None and now_s - self._up_since_s >= _WELL_S:
            self.attempts = 0
        self._up_since_s = None
        self.attempts += 1
        if self.attempts == 1:
            return 0.0
        if self.attempts > _IN_A_ROW:
            return _SELDOM_S
        return min(_FIRST_PAUSE_S * 2.0 ** (self.attempts - 1), _LONGEST_PAUSE_S)

    def came_back(self, now_s: float) -> None:
        """It runs again."""
        self._up_since_s = now_s
