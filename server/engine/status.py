"""How a source is doing: its states, the one table of steps between them, and what others are shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from protocol.feed import ErrorCode, SourceError
from protocol.ids import SourceId

__all__ = [
    "STEPS",
    "EngineCounts",
    "EngineStatistics",
    "IllegalStep",
    "SourceState",
    "SourceStatus",
    "Step",
    "step",
]


class SourceState(Enum):
    """The values are the protocol's words."""

    # There is one of each, and the table of steps is asked again and again; Enum's own hash is Python's.
    __hash__ = object.__hash__

    OFF = "off"
    """Not there, or it could not be built."""
    STARTING = "starting"
    """There, and still to give its first answer."""
    ACTIVE = "active"
    """Its last answer was good."""
    FAILING = "failing"
    """Its last call failed; what it reported before may still be shown."""
    BLOCKED = "blocked"
    """Something it needs is off or missing, or needs it in turn: it is not asked, and shows nothing."""


class Step(Enum):
    """What can happen to a source."""

    __hash__ = object.__hash__

    ADD = "add"
    SWAP = "swap"
    ANSWER = "answer"
    FAIL = "fail"
    BLOCK = "block"
    UNBLOCK = "unblock"
    REMOVE = "remove"


class IllegalStep(Exception):
    """A bug of ours: a step that its source's state does not know."""

    def __init__(self, state: SourceState, taken: Step) -> None:
        super().__init__(state, taken)
        self.state = state
        self.taken = taken

    def __str__(self) -> str:
        return f"a source that is {self.state.value} does not take the step {self.taken.value}"


STEPS: Final[Mapping[tuple[SourceState, Step], SourceState]] = {
    (SourceState.OFF, Step.ADD): SourceState.STARTING,
    (SourceState.OFF, Step.REMOVE): SourceState.OFF,
    (SourceState.STARTING, Step.SWAP): SourceState.STARTING,
    (SourceState.STARTING, Step.ANSWER): SourceState.ACTIVE,
    (SourceState.STARTING, Step.FAIL): SourceState.FAILING,
    (SourceState.STARTING, Step.BLOCK): SourceState.BLOCKED,
    (SourceState.STARTING, Step.REMOVE): SourceState.OFF,
    (SourceState.ACTIVE, Step.SWAP): SourceState.STARTING,
    (SourceState.ACTIVE, Step.ANSWER): SourceState.ACTIVE,
    (SourceState.ACTIVE, Step.FAIL): SourceState.FAILING,
    (SourceState.ACTIVE, Step.BLOCK): SourceState.BLOCKED,
    (SourceState.ACTIVE, Step.REMOVE): SourceState.OFF,
    (SourceState.FAILING, Step.SWAP): SourceState.STARTING,
    (SourceState.FAILING, Step.ANSWER): SourceState.ACTIVE,
    (SourceState.FAILING, Step.FAIL): SourceState.FAILING,
    (SourceState.FAILING, Step.BLOCK): SourceState.BLOCKED,
    (SourceState.FAILING, Step.REMOVE): SourceState.OFF,
    # A blocked source may go on pushing: that is kept for later, and changes nothing now.
    (SourceState.BLOCKED, Step.SWAP): SourceState.BLOCKED,
    (SourceState.BLOCKED, Step.ANSWER): SourceState.BLOCKED,
    (SourceState.BLOCKED, Step.BLOCK): SourceState.BLOCKED,
    (SourceState.BLOCKED, Step.UNBLOCK): SourceState.STARTING,
    (SourceState.BLOCKED, Step.REMOVE): SourceState.OFF,
}


def step(state: SourceState, taken: Step) -> SourceState:
    """The state after a step. Raises IllegalStep for one that `STEPS` does not have."""
    try:
        return STEPS[state, taken]
    except KeyError:
        raise IllegalStep(state, taken) from None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a settings screen is told about one source."""

    status: SourceState
    error: SourceError | None = None
    """Also beside `active`: an answer that was used but for a part of it."""
    blocked_by: SourceId | None = None
    """The dependency because of which it is blocked."""
    blocked_reason: str | None = None
    """The same in a sentence."""
    last_ok_at: datetime | None = None


class EngineCounts:
    """What an engine counts while it works, in plain integers. One object may count for many engines: then it
    says what all of them did, also those that are no more."""

    __slots__ = ("compilations", "compute_s", "emissions", "failures", "limits", "pushes", "runs")

    def __init__(self) -> None:
        self.runs: dict[SourceId, int] = {}
        """Calls begun, by source."""
        self.failures: dict[tuple[SourceId, ErrorCode], int] = {}
        """Calls without an answer, by source and code."""
        self.limits: dict[str, int] = {}
        """Compilations and reports from which something was left out, by the name of the limit's setting."""
        self.pushes = 0
        """Reports that sources made by themselves."""
        self.compilations = 0
        self.emissions = 0
        """Compilations that changed something."""
        self.compute_s = 0.0
        """Time spent compiling, in all."""

    def run(self, source_id: SourceId) -> None:
        """A call has begun."""
        self.runs[source_id] = self.runs.get(source_id, 0) + 1

    def limit(self, name: str) -> None:
        """Something was left out; `name` is that of the limit's setting."""
        self.limits[name] = self.limits.get(name, 0) + 1

    def failure(self, source_id: SourceId, code: ErrorCode) -> None:
        """A call has failed."""
        key = (source_id, code)
        self.failures[key] = self.failures.get(key, 0) + 1


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """What one engine has done since it was made (or all that count together with it)."""

    sources: int
    runs: int
    """Calls begun, of any source."""
    failures: int
    pushes: int
    compilations: int
    wakes: int
    """How often its timer rang."""
    emissions: int
    """Compilations that changed something."""
    compute_s: float
    """Time spent compiling, in all."""
