"""Whether a pass is due, and if not, why and for how long. Pure: times are monotonic seconds that come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from server.enhancement.options import EnhancementOptions

__all__ = ["Breaker", "Decision", "Facts", "SkipReason", "decide"]

SkipReason = Literal[
    "nobodyListens",
    "optedOut",
    "nothingOpen",
    "sameInput",
    "debounce",
    "interval",
    "breaker",
    "refused",
    "superseded",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """How things stand for one user."""

    listening: bool
    opted_out: bool
    input_hash: bytes | None
    """Of the present input; None: no slot is open."""

    answered_hash: bytes | None
    """The last input that an answer is stored of."""

    changed_at: float
    """Since when the input is another than what was answered."""

    last_began: float | None
    """When the last call for this user began."""

    not_before: float = 0.0
    """The store refused the turn, or a call failed: not again before this."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`wait_s` 0: run now; more: decide again after so long; None: nothing to wait for."""

    wait_s: float | None
    reason: SkipReason | None = None


def decide(facts: Facts, breaker_until: float, now: float, options: EnhancementOptions) -> Decision:
    """The one home of the gates, from the cheapest to the longest."""
    if facts.opted_out:
        return Decision(None, "optedOut")
    if not facts.listening:
        return Decision(None, "nobodyListens")
    if facts.input_hash is None:
        return Decision(None, "nothingOpen")
    if facts.input_hash == facts.answered_hash:
        return Decision(None, "sameInput")
    interval = facts.last_began + options.min_interval_s if facts.last_began is not None else now
    waits: tuple[tuple[float, SkipReason], ...] = (
        (facts.changed_at + options.debounce_s, "debounce"),
        (interval, "interval"),
        (facts.not_before, "refused"),
        (breaker_until, "breaker"),
    )
    until, reason = max(waits, key=lambda wait: wait[0])
    return Decision(0.0) if until <= now else Decision(until - now, reason)


class Breaker:
    """Opens after failures in a row, of whichever users, and longer with each further one."""

    __slots__ = ("_options", "failures", "until")

    def __init__(self, options: EnhancementOptions) -> None:
        self._options = options
        self.failures = 0
        self.until = 0.0

    def succeeded(self) -> None:
        """A call was answered."""
        self.failures = 0
        self.until = 0.0

    def failed(self, now: float, retry_after_s: float | None = None) -> None:
        """A call was not. `retry_after_s`: the endpoint asks to be left alone for so long."""
        self.failures += 1
        past = self.failures - self._options.breaker_failures
        wait = self._options.breaker_s * 2.0 ** min(past, 30) if past >= 0 else 0.0
        if retry_after_s is not None:
            wait = max(wait, retry_after_s)
        if wait > 0:
            self.until = max(self.until, now + min(wait, self._options.breaker_most_s))
