"""What an engine shows: the value it hands to the session, and the rules by which parts become it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from protocol.feed import ContextEntry, ErrorCode, FeedItem, Group, SourceError
from protocol.ids import SourceId
from server.engine.clock import Clock
from server.engine.slot import Trigger

__all__ = ["NOTHING_YET", "Cause", "EngineState", "StandingErrors"]


class Cause(NamedTuple):
    """Why the feed changed. A tuple, as is the state: both are made for every single update."""

    source_id: SourceId | None
    trigger: Trigger
    compute_ms: float = 0.0


class EngineState(NamedTuple):
    """The whole feed of one moment, but for what the session adds. Immutable; what did not change is the same
    object as in the state before."""

    items: tuple[FeedItem, ...]
    """Ranked and within the limits."""
    groups: tuple[Group, ...]
    errors: tuple[SourceError, ...]
    """Of the sources in their order, then of the post-processors, then of the limits."""
    pending: tuple[SourceId, ...]
    context: tuple[ContextEntry, ...]
    """Sorted by key bytes."""


NOTHING_YET: Final = EngineState((), (), (), (), ())


class StandingErrors:
    """Errors that are found anew in every derivation: `since` is when each was found first."""

    __slots__ = ("_errors",)

    def __init__(self) -> None:
        self._errors: tuple[SourceError, ...] = ()

    def __bool__(self) -> bool:
        """Whether something was wrong the last time."""
        return bool(self._errors)

    def has(self, name: str) -> bool:
        """Whether that was wrong the last time."""
        return any(error.source_id == name for error in self._errors)

    def found(self, clock: Clock, found: Sequence[tuple[str, ErrorCode, str]]) -> tuple[SourceError, ...]:
        """What is wrong now, each with its id, code and sentence; the same tuple if nothing changed."""
        now = clock.now()
        since = {error.source_id: error.since for error in self._errors}
        errors = tuple([SourceError(i, code, text, since.get(i, now)) for i, code, text in found])
        if errors != self._errors:
            self._errors = errors
        return self._errors
