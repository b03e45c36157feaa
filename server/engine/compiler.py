"""Compiles what the sources hold into the feed: post-processors, the session's own finish, limits; and tells
the session when the result is another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import TypeAlias

import structlog

from protocol.feed import ErrorCode, FeedItem, SourceError
from protocol.ids import SourceId
from server.engine.context import Context
from server.engine.derivation import Ranked, derive
from server.engine.limits import LIMITS_ID, fit, left_out_message, size_of_groups
from server.engine.processors import PostProcessor
from server.engine.ranking import kept_groups
from server.engine.roster import Roster
from server.engine.schedule import wake_at
from server.engine.slot import Trigger
from server.engine.state import NOTHING_YET, Cause, EngineState, StandingErrors

__all__ = ["Compiler", "Finish"]

Finish: TypeAlias = Callable[[tuple[FeedItem, ...], Context], tuple[FeedItem, ...]]
"""The session's own last word on the ranked items (dismissals, filled slots). Must not wait. Where it changes
nothing it returns the tuple it was given; an item that it makes should be the same object the next time."""

_log = structlog.stdlib.get_logger(__name__)


class Compiler:
    """One compilation at a time: what changes meanwhile is compiled after it, and the last one counts."""

    __slots__ = (
        "_again",
        "_began_s",
        "_busy",
        "_cause",
        "_finish",
        "_on_change",
        "_processors",
        "_roster",
        "_standing",
        "compiled",
        "look_again_at",
        "state",
    )

    def __init__(
        self,
        roster: Roster,
        processors: Sequence[PostProcessor],
        finish: Finish | None,
        on_change: Callable[[Cause], None],
    ) -> None:
        self._roster = roster
        self._processors = tuple(processors)
        self._finish = finish
        self._on_change = on_change
        self.state: EngineState = NOTHING_YET
        self.look_again_at: datetime | None = None
        """When a post-processor will say something else."""
        self._standing = StandingErrors()
        self.compiled = 0
        """The roster's changes that `state` has in it, or is about to have."""
        self._busy = False
        self._began_s = 0.0
        self._cause: tuple[SourceId | None, Trigger] = (None, "fetch")
        self._again: tuple[SourceId | None, Trigger] | None = None

    def catch_up_if_asked(self) -> None:
        """Compiles if somebody wanted it while it could not be done."""
        if self._again is not None and not self._busy:
            self.compile(*self._again)

    def compile(self, source: SourceId | None, trigger: Trigger) -> None:
        """Makes the feed anew, and says so if it is another."""
        if self._busy:
            # In the middle of an asynchronous post-processor; or called by one, or by the session's callback.
            self._again = source, trigger
            return
        roster = self._roster
        self._busy = True
        self._again = None
        self._cause = source, trigger
        self.compiled = roster.changes
        self._began_s = roster.clock.monotonic()
        items = tuple(chain.from_iterable([slot.items.items for slot in roster.shown]))
        if not self._processors:
            self._complete(Ranked(items))
            return
        derive(
            items,
            roster.view(),
            self._processors,
            clock=roster.clock,
            tasks=roster.tasks,
            timeout_s=roster.limits.processor_timeout_s,
            then=self._complete,
        )

    def dissolve(self) -> None:
        """Lets go of whom it told. Called once, at the end."""
        self._finish = None
        self._on_change = _nobody

    def _complete(self, ranked: Ranked) -> None:
        roster = self._roster
        try:
            if not roster.closed:
                self._compare(self._assemble(ranked))
        finally:
            self._busy = False
        if self._again is not None and not roster.closed:
            # Not at once: whoever changes the feed in every compilation must not hold the event loop.
            roster.alarm.set(roster.clock.monotonic())

    def _compare(self, state: EngineState) -> None:
        roster, old = self._roster, self.state
        took_s = roster.clock.monotonic() - self._began_s
        counts = roster.counts
        counts.compilations += 1
        counts.compute_s += took_s
        if (
            state.context is old.context
            and state.pending == old.pending
            and state.errors == old.errors
            and state.groups == old.groups
            and old.items == state.items  # by identity where it can be, else by bytes
        ):
            return  # and the old objects stay, for whoever compares by identity
        self.state = state
        counts.emissions += 1
        try:
            self._on_change(Cause(*self._cause, took_s * 1000.0))
        except Exception:
            _log.exception("feed_listener_failed")

    def _assemble(self, ranked: Ranked) -> EngineState:
        roster = self._roster
        finished = ranked.items if self._finish is None else self._finished(self._finish, ranked.items)
        items = self._within_limits(finished, ranked)
        groups = ranked.groups
        if groups and items is not ranked.items:
            groups = kept_groups(groups, items)
        errors, pending = roster.facts()
        left_out = len(finished) - len(items)
        if ranked.failures or left_out or self._standing:
            errors += self._standing_errors(ranked, left_out)
        self.look_again_at = None
        if ranked.next_change_at is not None:
            self.look_again_at = wake_at(ranked.next_change_at, roster.clock.now())
            roster.alarm.set_wall(self.look_again_at)
        return EngineState(items, groups, errors, pending, roster.context.sorted())

    def _finished(self, finish: Finish, items: tuple[FeedItem, ...]) -> tuple[FeedItem, ...]:
        try:
            return finish(items, self._roster.view())
        except Exception:  # a feed without its finish is better than none
            _log.exception("feed_finish_failed")
            return items

    def _within_limits(self, items: tuple[FeedItem, ...], ranked: Ranked) -> tuple[FeedItem, ...]:
        roster, limits = self._roster, self._roster.limits
        room = limits.bytes - roster.context.encoded_size
        if ranked.groups:
            room -= size_of_groups(ranked.groups)
        if (
            items is ranked.items
            and len(items) <= limits.items
            and roster.items_size + ranked.added_bytes <= room  # no item was looked at
        ):
            return items
        count = fit(items, limits, room)
        if count == len(items):
            return items
        roster.counts.limit("max_items" if count == limits.items else "max_feed_bytes")
        return items[:count]

    def _standing_errors(self, ranked: Ranked, left_out: int) -> tuple[SourceError, ...]:
        found: list[tuple[str, ErrorCode, str]] = []
        for name, message, raised in ranked.failures:
            found.append((name, "internal", message))
            if not self._standing.has(name):  # once, not with every update that it fails for
                _log.warning("processor_failed", processor=name, exc_info=raised)
        if left_out:
            found.append((LIMITS_ID, "limit", left_out_message(left_out)))
        return self._standing.found(self._roster.clock, found)


def _nobody(_cause: Cause) -> None:
    """There is nobody to be told any more."""
