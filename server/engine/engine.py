"""The feed of one user: sources join, report, and leave; out come one ranked list, and word of each change.

A report is committed by the `roster` in one step (in through `reception`); then the `compiler` makes the list
anew. Who is in the roster is `membership`'s matter. This class joins them, and owns the one timer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Final

import structlog

from protocol.feed import SourceError
from protocol.ids import SourceId
from server.engine.alarm import Alarm
from server.engine.clock import Clock
from server.engine.compiler import Compiler, Finish
from server.engine.context import Context
from server.engine.limits import FeedLimits
from server.engine.membership import Membership
from server.engine.processors import PostProcessor
from server.engine.reception import Reception
from server.engine.report import SavedSource
from server.engine.roster import Roster
from server.engine.schedule import HAIR_S
from server.engine.slot import Trigger
from server.engine.source import FeedSource
from server.engine.state import Cause, EngineState
from server.engine.status import EngineCounts, EngineStatistics, SourceState, SourceStatus
from server.engine.tasks import TaskScope

__all__ = ["FeedEngine"]

_OFF: Final = SourceStatus(SourceState.OFF)
_DEFAULT_LIMITS: Final = FeedLimits()
_CHANCE: Final = Random()  # noqa: S311 -- spreads timers, guards nothing
_log = structlog.stdlib.get_logger(__name__)


class FeedEngine:
    """The feed of one user. Used from the event loop's thread alone; only `refresh` and `aclose` wait.

    `on_change` is called after every change of `state`, `on_status` with the id of every source whose status,
    error or reason changed (also where the feed is the same). Both must not wait; what they raise is logged.

    `order` names all sources there can be, in registration order: it decides ties, whoever came first.
    `counts` may be shared by many engines; it then tells of all of them.
    """

    __slots__ = ("_alarm", "_compiler", "_membership", "_on_status", "_roster", "clock")

    def __init__(
        self,
        *,
        clock: Clock,
        tasks: TaskScope,
        on_change: Callable[[Cause], None],
        on_status: Callable[[SourceId], None] | None = None,
        processors: Sequence[PostProcessor] = (),
        finish: Finish | None = None,
        limits: FeedLimits = _DEFAULT_LIMITS,
        order: Sequence[SourceId] = (),
        rng: Random = _CHANCE,
        counts: EngineCounts | None = None,
    ) -> None:
        self.clock = clock
        self._on_status = on_status
        self._alarm = Alarm(clock, self._ring)
        self._roster = Roster(
            clock=clock,
            tasks=tasks,
            limits=limits,
            alarm=self._alarm,
            rng=rng,
            counts=counts or EngineCounts(),
            on_settled=self._settled,
        )
        self._membership = Membership(self._roster, Reception(self._roster), order)
        self._compiler = Compiler(self._roster, processors, finish, on_change)

    # What it shows

    @property
    def state(self) -> EngineState:
        """The feed as it is now."""
        return self._compiler.state

    @property
    def next_change_at(self) -> datetime | None:
        """When time alone will change something, as far as sources and post-processors have said."""
        moments = [self._compiler.look_again_at]
        for slot in self._roster.shown:
            moments += (slot.next_change_at, slot.items.next_expiry)
        return min((moment for moment in moments if moment is not None), default=None)

    def status(self, source_id: SourceId) -> SourceStatus:
        """How one source is doing; `off` for one that is not there."""
        slot = self._roster.slots.get(source_id)
        return _OFF if slot is None else slot.status()

    def source(self, source_id: SourceId) -> FeedSource | None:
        """The running instance."""
        slot = self._roster.slots.get(source_id)
        return None if slot is None or slot.runner is None else slot.runner.source

    @property
    def is_inheriting(self) -> bool:
        """Whether something is still shown of an instance that another one has taken the place of, and that
        one may yet answer soon: it has not failed."""
        slots = self._roster.slots.values()
        return any(slot.inherited and slot.swapped and slot.failure is None for slot in slots)

    @property
    def context(self) -> Context:
        """What the sources know now."""
        return self._roster.view()

    def saved(self, source_id: SourceId) -> SavedSource | None:
        """A source's last good report, for `add(saved=...)` after a restart; None where there is nothing."""
        slot = self._roster.slots.get(source_id)
        return None if slot is None else slot.saved(self.clock.now())

    def statistics(self) -> EngineStatistics:
        """What it has done so far."""
        roster, counts = self._roster, self._roster.counts
        return EngineStatistics(
            sources=len(roster.slots),
            runs=sum(counts.runs.values()),
            failures=sum(counts.failures.values()),
            pushes=counts.pushes,
            compilations=counts.compilations,
            wakes=self._alarm.rings,
            emissions=counts.emissions,
            compute_s=counts.compute_s,
        )

    # Who is in it

    def add(self, source: FeedSource, *, saved: SavedSource | None = None, ask: bool = True) -> None:
        """Takes a source in, and asks it at once; with `ask` false only when somebody listens.

        What was saved is shown until its first answer. One that is there already is swapped. After `aclose`
        the source is closed, and that is all.
        """
        self._place(SourceId(source.id), source, "fetch", saved, ask)

    def swap(self, source_id: SourceId, source: FeedSource) -> None:
        """Puts a new instance in the place of the old one, whose items stay until the new one's first answer.

        What the new one cannot be asked for it must push before the event loop goes on; else it is taken to
        have nothing. The old one is closed in the background. A source of a foreign id is not let in.
        """
        if source.id != source_id:
            self._membership.turn_away(source_id, source)
            message = "The source that was built for it bears another id"
            self.fail(source_id, SourceError(source_id, "internal", message, self.clock.now()))
        else:
            self._place(source_id, source, "swap", None, ask=True)

    def _place(
        self, name: SourceId, source: FeedSource, why: Trigger, saved: SavedSource | None, ask: bool
    ) -> None:
        if self._roster.closed:
            self._membership.turn_away(name, source)
        else:
            self._membership.place(name, source, why, saved, ask)

    def remove(self, source_id: SourceId) -> None:
        """Takes a source out, with its items and context; those that need it are blocked. Closes it in the
        background. Nothing happens if it is not there."""
        if not self._roster.closed:
            self._membership.remove(source_id)

    def fail(self, source_id: SourceId, error: SourceError, *, saved: SavedSource | None = None) -> None:
        """Shows that a source could not be built, until one is; a running instance goes on meanwhile."""
        if not self._roster.closed:
            self._membership.fail_build(source_id, error, saved)

    @contextmanager
    def step(self) -> Generator[None]:
        """What is done inside is one step: the feed is made anew once, at its end, and the first thing done
        is its cause. Nothing inside may wait."""
        self._roster.begin_unnamed()
        try:
            yield
        finally:
            self._roster.end()

    # What makes it go

    def set_listening(self, listening: bool) -> None:
        """Whether anybody sees the feed: else nothing is refreshed or retried by itself. What is overdue is
        asked at once."""
        roster = self._roster
        if roster.closed or listening is roster.listening:
            return
        roster.listening = listening
        if listening:
            self._ring()

    async def refresh(self) -> None:
        """Asks every source, and returns when each has answered, failed or run out of time."""
        roster = self._roster
        if roster.closed:
            return
        roster.begin(None, "refresh")
        try:
            awaited = [
                (runner, runner.runs + roster.ask_again(slot, runner))
                for slot in roster.shown
                if (runner := slot.runner) is not None
            ]
        finally:
            roster.end()
        for runner, runs in awaited:
            while runner.is_asked and runner.runs < runs and roster.is_waiting(runner):
                await runner.ended.wait()

    def derive_now(self, cause: Cause) -> None:
        """Makes the list anew, because something in `finish` changed."""
        if not self._roster.closed:
            self._compiler.compile(cause.source_id, cause.trigger)

    def wall_clock_set(self, in_s: float) -> None:
        """Looks after so long what has come due, where time changes anything: the wall clock was set forward
        or back, which timers do not notice."""
        self._alarm.hurry(in_s)

    async def aclose(self) -> None:
        """Ends it: nothing is shown, called or kept from here on. Returns when every source has been closed,
        or has had its time. Idempotent; if it is cancelled, the sources are closed all the same."""
        self._alarm.cancel()
        await self._membership.aclose()
        self._dissolve()

    def _dissolve(self) -> None:
        """Cuts the circles in which the parts of a feed know each other: it is then freed when the last one
        lets go of it. The collector, for which what lives long is not worth a look, would leave it for
        hours, and every user who came and went would cost memory meanwhile.
        """
        self._on_status = None
        self._alarm.close()
        self._compiler.dissolve()
        self._roster.dissolve()

    def _ring(self) -> None:
        """The alarm: does what has come due, and sets itself again."""
        roster, compiler = self._roster, self._compiler
        if roster.closed:
            return
        now = self.clock.now() + timedelta(seconds=HAIR_S)
        roster.begin(None, "timer")
        try:
            roster.tick(now, self.clock.monotonic() + HAIR_S)
            if compiler.look_again_at is not None and compiler.look_again_at <= now:
                compiler.look_again_at = None
                roster.changes += 1
        finally:
            roster.end()
        compiler.catch_up_if_asked()
        self._alarm.set_wall(compiler.look_again_at)
        for slot in roster.shown:
            roster.arm(slot)

    def _settled(self, source: SourceId | None, trigger: Trigger) -> None:
        """A step of the roster is over."""
        roster = self._roster
        if roster.changes != self._compiler.compiled:
            self._compiler.compile(source, trigger)
        touched = roster.touched
        if touched is not None:
            roster.touched = None
            if self._on_status is not None:
                for name in touched:
                    self._tell_status(self._on_status, name)

    def _tell_status(self, on_status: Callable[[SourceId], None], name: SourceId) -> None:
        try:
            on_status(name)
        except Exception:
            _log.exception("status_listener_failed", source=name)
