"""One source's place in the feed: what it last reported, how it is doing, when it is to be asked.

Plain state and what follows from each event; nothing here waits, calls a source, or knows the other slots.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from protocol.feed import ContextEntry, SourceError
from protocol.ids import SourceId
from server.engine.graph import Blocked
from server.engine.report import NO_ITEMS, Fingerprint, Flaw, Items, SavedSource
from server.engine.runner import Phase, SourceRunner
from server.engine.schedule import FOREVER, retry_delay_s
from server.engine.source import FeedSource, SourceFailure
from server.engine.status import SourceState, SourceStatus, Step, step

__all__ = ["BOTH", "CONTEXT", "ITEMS", "UNKNOWN", "Slot", "Trigger"]

Trigger: TypeAlias = Literal[
    "fetch", "refresh", "retry", "push", "context", "timer", "swap", "remove", "fail", "dismiss", "enhance"
]
"""What set a change off. An answer bears the reason why its source was asked."""

# The two halves of a report, as bits: plain numbers, since every push looks at them.
ITEMS: Final = 1
CONTEXT: Final = 2
BOTH: Final = ITEMS | CONTEXT


class _Unknown:
    """A key of its own kind."""


UNKNOWN: Final = _Unknown()
"""The key of a report that fits whatever input it is first compared with."""

_DEFAULT_STALE_S: Final = FeedSource.stale_after_s


class Slot:
    """See the module. A slot without a runner is a source that could not be built."""

    __slots__ = (
        "_failures",
        "_state",
        "asked_for",
        "asked_key",
        "begun_at",
        "blocked",
        "build_error",
        "context",
        "context_flaw",
        "context_key",
        "due",
        "failure",
        "id",
        "inherited",
        "inherited_until",
        "items",
        "items_flaw",
        "items_key",
        "last_ok_at",
        "needs",
        "next_change_at",
        "place",
        "refresh_at",
        "retry_at",
        "runner",
        "seen_version",
        "shown_context",
        "swapped",
        "uses",
    )

    def __init__(self, name: SourceId, place: int) -> None:
        self.id = name
        self.place = place
        self.needs: tuple[SourceId, ...] = ()
        self.uses: tuple[SourceId, ...] = ()
        self.runner: SourceRunner | None = None
        self._state = SourceState.OFF
        self.blocked: Blocked | None = None

        # What was reported. Of `context`, nothing is shown (in the store) while the source is blocked.
        self.items: Items = NO_ITEMS
        self.context: tuple[ContextEntry, ...] = ()
        self.shown_context: tuple[ContextEntry, ...] = ()
        self.next_change_at: datetime | None = None
        self.last_ok_at: datetime | None = None
        # The input that each half was made from.
        self.items_key: Hashable = UNKNOWN
        self.context_key: Hashable = UNKNOWN
        # The halves that are still those of the instance before this one, or of the last process.
        self.inherited = 0
        self.inherited_until: datetime | None = None
        self.swapped = False  # whether what is inherited is an earlier instance's, and not what was saved

        self.build_error: SourceError | None = None
        self.failure: SourceError | None = None
        self.items_flaw: SourceError | None = None
        self.context_flaw: SourceError | None = None
        self._failures = 0

        # When it is to be asked (monotonic), and about which input it was asked last.
        self.due: Trigger | None = None
        self.retry_at = FOREVER
        self.refresh_at = FOREVER
        self.begun_at = -FOREVER
        self.asked_for: Trigger = "fetch"
        self.asked_key: Hashable = UNKNOWN
        self.seen_version = 0

    # What others are told

    @property
    def state(self) -> SourceState:
        """Outwards: a source that runs on while its successor cannot be built is failing."""
        if self.build_error is not None and self.blocked is None:
            return SourceState.FAILING
        return self._state

    @property
    def error(self) -> SourceError | None:
        """The gravest of what is wrong with it; nothing while it is blocked, which has its own words."""
        if self.blocked is not None:
            return None
        return self.build_error or self.failure or self.items_flaw or self.context_flaw

    def status(self) -> SourceStatus:
        """All of it as one value."""
        blocked = self.blocked
        return SourceStatus(
            self.state,
            self.error,
            None if blocked is None else blocked.by,
            None if blocked is None else blocked.reason,
            self.last_ok_at,
        )

    def saved(self, now: datetime) -> SavedSource | None:
        """Its last good report, if there is anything in it; not what an earlier instance left behind, which
        was set up differently."""
        if not self.held or (self.inherited and self.swapped):
            return None
        key = self.items_key if self.items.items else self.context_key
        mark = None if key is UNKNOWN else str(Fingerprint.of(key))
        return SavedSource(self.items.items, self.context, self.last_ok_at or now, mark)

    # What happens to it

    def took(self, taken: Step) -> None:
        """One step of its state. Raises IllegalStep."""
        self._state = step(self._state, taken)

    def answered(self, now: datetime) -> bool:
        """A good report; returns whether its error or status changed."""
        self.last_ok_at = now
        if self._state is SourceState.ACTIVE:
            return False
        before = self._state
        self.took(Step.ANSWER)
        self.failure = None
        self._failures = 0
        self.retry_at = FOREVER
        return before is not self._state

    def failed(self, failure: SourceFailure, now: datetime, now_s: float, chance: float) -> None:
        """A call without an answer: says when to try again."""
        self.took(Step.FAIL)
        self._failures += 1
        delay_s = retry_delay_s(failure.code, self._failures, failure.retry_after_s, chance)
        self.retry_at = now_s + delay_s
        since = now if self.failure is None else self.failure.since
        self.failure = SourceError(
            self.id, failure.code, failure.message, since, now + timedelta(seconds=delay_s)
        )

    def flawed(self, part: int, flaw: Flaw | None, now: datetime) -> bool:
        """What is wrong with the half of a report just let in; returns whether that is news."""
        was = self.items_flaw if part == ITEMS else self.context_flaw
        if was is None and flaw is None:
            return False
        if flaw is not None and was is not None and (was.code, was.message) == flaw:
            return False
        error = None if flaw is None else SourceError(self.id, flaw.code, flaw.message, now)
        if part == ITEMS:
            self.items_flaw = error
        else:
            self.context_flaw = error
        return True

    def forgive(self) -> None:
        """Forgets what went wrong: it begins anew."""
        self.failure = self.items_flaw = self.context_flaw = None
        self._failures = 0
        self.retry_at = FOREVER

    # What it holds

    @property
    def askable(self) -> int:
        """The halves of its report that can be asked for. What is only ever pushed would never come back."""
        if self.runner is None:
            return BOTH
        source = self.runner.source
        return ITEMS * source.fetches_items | CONTEXT * source.fetches_context

    @property
    def held(self) -> int:
        """The halves in which there is anything."""
        return ITEMS * bool(self.items.items) | CONTEXT * bool(self.context)

    def outdated(self, key: Hashable) -> int:
        """The halves that were made from another input than this."""
        items_fit, self.items_key = _compare(self.items_key, key)
        context_fits, self.context_key = _compare(self.context_key, key)
        return ITEMS * (not items_fit) | CONTEXT * (not context_fits)

    def rekey(self, outdated: int) -> None:
        """A new instance compares by keys of its own: what fits goes on fitting, whatever key it names."""
        if not outdated & ITEMS:
            self.items_key = UNKNOWN
        if not outdated & CONTEXT:
            self.context_key = UNKNOWN

    @property
    def is_failing(self) -> bool:
        """Whether nothing newer can be expected of it for now."""
        return self.failure is not None or (self.runner is None and self.build_error is not None)

    @property
    def stale_at(self) -> datetime | None:
        """When what it holds is too old to be shown while it fails; None if it holds nothing that goes."""
        if self.last_ok_at is None or not self.held & self.askable:
            return None
        stale_s = _DEFAULT_STALE_S if self.runner is None else self.runner.source.stale_after_s
        return self.last_ok_at + timedelta(seconds=stale_s)

    def is_stale(self, now: datetime) -> bool:
        """Whether that is now."""
        stale_at = self.stale_at
        return stale_at is not None and stale_at <= now

    # When it wants to be looked at

    def wall_wake(self) -> datetime | None:
        """The earliest moment at which the wall clock changes something about it."""
        wake = self.items.next_expiry
        for moment in (
            self.next_change_at,
            self.inherited_until,
            self.stale_at if self.is_failing else None,
        ):
            if moment is not None and (wake is None or moment < wake):
                wake = moment
        return wake

    def ask_at(self, listening: bool) -> float:
        """When it is to be asked by itself (monotonic). Never while nobody listens; nor if it is due already,
        or being asked."""
        runner = self.runner
        if not listening or self.blocked is not None or self.due is not None or runner is None:
            return FOREVER
        if runner.phase is not Phase.IDLE:
            return FOREVER
        return self.retry_at if self.failure is not None else self.refresh_at


def _compare(held: Hashable, key: Hashable) -> tuple[bool, Hashable]:
    """Whether what was made from `held` fits `key`, and the key to remember."""
    if held is UNKNOWN or (isinstance(held, Fingerprint) and held == Fingerprint.of(key)):
        return True, key
    return held == key, held
