"""When a client comes back: the memory between one connection and the next.

Pure: it is told how each connection ended and answers what to do; the waiting is done by whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.closing import STEADY_S, NextStep, advice

__all__ = ["Decision", "End", "ReconnectPolicy"]


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended: a close code, 1006 where there was none, and the reason as it was given."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and how long to wait before it."""

    step: NextStep
    delay_s: float


class ReconnectPolicy:
    """Follows `protocol.closing.advice` through a row of connections. `draw` gives numbers from 0 to 1."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._failures = 0
        self._refusals = 0

    def welcomed(self) -> None:
        """A connection was welcomed: its token is good."""
        self._refusals = 0

    def ended(self, end: End, lived_s: float) -> Decision:
        """A connection has ended, `lived_s` after its welcome (0 where there was none)."""
        if lived_s >= STEADY_S:
            self._failures = 0
        advised = advice(end.code, end.reason, failures=self._failures, refusals=self._refusals)
        self._failures += 1
        if advised.step in (NextStep.NEW_TOKEN, NextStep.SIGN_IN):
            self._refusals += 1
        return Decision(advised.step, advised.delay_s(self._draw()))
