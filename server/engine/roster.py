"""All sources of one feed: what each last reported, who waits for whom, who is to be asked now.

Every event (a report, an answer, a failure, a swap, the alarm) is one synchronous step: it is committed, the
sources that it makes due are started, and the engine is told once that something may have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from typing import Final

from protocol.feed import ContextEntry, FeedItem, SourceError
from protocol.ids import SourceId
from server.engine.alarm import Alarm
from server.engine.clock import Clock
from server.engine.context import Context, ContextStore
from server.engine.graph import Plan, plan
from server.engine.limits import FeedLimits
from server.engine.report import NO_ITEMS, Items, admit_context, admit_items, answered_items
from server.engine.runner import Phase, SourceRunner
from server.engine.schedule import FOREVER, HAIR_S, SPACING_S, wake_at
from server.engine.slot import BOTH, CONTEXT, ITEMS, UNKNOWN, Slot, Trigger
from server.engine.source import Answer, SourceFailure
from server.engine.status import EngineCounts, SourceState
from server.engine.tasks import TaskScope

__all__ = ["Roster"]

_EMPTY_PLAN: Final = plan(())


class Roster:
    """See the module.

    Who is in it is changed by `membership`; what sources report comes in through `reception`.
    """

    __slots__ = (
        "_cause",
        "_depth",
        "_facts",
        "_now",
        "_on_settled",
        "alarm",
        "changes",
        "clock",
        "closed",
        "context",
        "counts",
        "items_size",
        "limits",
        "listening",
        "look",
        "plan",
        "rng",
        "shown",
        "slots",
        "tasks",
        "touched",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        tasks: TaskScope,
        limits: FeedLimits,
        alarm: Alarm,
        rng: Random,
        counts: EngineCounts,
        on_settled: Callable[[SourceId | None, Trigger], None],
    ) -> None:
        self.clock = clock
        self.tasks = tasks
        self.limits = limits
        self.alarm = alarm
        self.rng = rng
        self._on_settled = on_settled
        self.slots: dict[SourceId, Slot] = {}
        self.context = ContextStore()
        self.plan: Plan = _EMPTY_PLAN
        self.shown: tuple[Slot, ...] = ()
        """Those that are not blocked, in the order of the feed."""
        self.items_size = 0
        """The bytes of all their items, encoded."""
        self.listening = False
        self.closed = False
        self.changes = 0
        """Raised whenever items, context, errors or pending sources changed."""
        self.touched: set[SourceId] | None = None
        """The sources whose status changed since somebody last looked."""
        self.counts = counts
        self._facts: tuple[tuple[SourceError, ...], tuple[SourceId, ...]] | None = None
        # Steps taken inside a step are part of it.
        self._depth = 0
        self._now: datetime | None = None
        self._cause: tuple[SourceId | None, Trigger] | None = None
        self.look = False
        """Set when somebody may have become ready to be asked."""

    def view(self) -> Context:
        """The present context, at the present time."""
        return self.context.view(self.now())

    def now(self) -> datetime:
        """The present time; in the middle of a step that of its first use, which all of it then share."""
        now = self._now
        if now is None:
            now = self.clock.now()
            if self._depth:
                self._now = now
        return now

    def facts(self) -> tuple[tuple[SourceError, ...], tuple[SourceId, ...]]:
        """The errors of the sources, and those whose first answer is still to come."""
        if self._facts is None:
            errors = tuple([error for slot in self.shown if (error := slot.error) is not None])
            self._facts = (
                errors,
                tuple([slot.id for slot in self.shown if slot.state is SourceState.STARTING]),
            )
        return self._facts

    def show(self, slots: tuple[Slot, ...]) -> None:
        """Who is shown changes."""
        self.shown = slots
        self.items_size = sum([slot.items.size for slot in slots])
        self._facts = None
        self.changes += 1

    # Steps

    def begin(self, source: SourceId | None, trigger: Trigger) -> None:
        """Opens a step. The outermost one names the cause."""
        if not self._depth or self._cause is None:
            self._cause = source, trigger
        self._depth += 1

    def begin_unnamed(self) -> None:
        """Opens a step that the first one inside it names."""
        if not self._depth:
            self._cause = None
        self._depth += 1

    def end(self) -> None:
        """Closes a step; with the outermost one everything that follows from it happens."""
        if self._depth == 1 and self.look:
            self._start_due()
        self._depth -= 1
        if self._depth:
            return
        self._now = None
        if not self.closed:
            self._on_settled(*(self._cause or (None, "swap")))

    def dissolve(self) -> None:
        """Lets go of everything, and of whom it told. Called once, when it is closed and nothing runs."""
        self.slots.clear()
        self.shown = ()
        self.plan = _EMPTY_PLAN
        self._on_settled = _nobody

    def note(self, slot: Slot) -> None:
        """The status or the error of a source changed."""
        self._facts = None
        self.changes += 1
        if self.touched is None:
            self.touched = set()
        self.touched.add(slot.id)

    def make_due(self, slot: Slot, why: Trigger) -> None:
        """The source is to be asked as soon as it can be; what was asked for already keeps its reason."""
        slot.due = slot.due or why
        self.look = True

    def ask_again(self, slot: Slot, runner: SourceRunner) -> int:
        """Has the source asked anew, by a call that begins after this; returns how many runs from now on must
        have ended until then."""
        if runner.phase is Phase.IDLE:
            slot.begun_at = -FOREVER  # somebody waits for it: the spacing is for bursts
            self.make_due(slot, "refresh")
            return 1
        runner.again = True
        return 2

    def is_waiting(self, runner: SourceRunner) -> bool:
        """Whether the source is in the feed and being asked, or about to be."""
        slot = self.slots.get(runner.name)
        return not runner.closed and slot is not None and slot.runner is runner and slot.blocked is None

    def _start_due(self) -> None:
        while self.look:
            self.look = False
            for slot in self.shown:
                if slot.due is not None and slot.runner is not None and not self._must_wait(slot):
                    self._ask(slot, slot.runner, slot.due)

    def _must_wait(self, slot: Slot) -> bool:
        """For its own run, for its place in time, or for the context of one that it reads: asked before that,
        it would only be asked again."""
        runner = slot.runner
        if runner is None or runner.phase is not Phase.IDLE:
            return True
        free_at = slot.begun_at + SPACING_S - HAIR_S
        if free_at > self.clock.monotonic():
            self.alarm.set(free_at)
            return True
        for name in self.plan.before.get(slot.id, ()):
            read = self.slots[name].runner
            if read is None or not read.source.fetches_context:
                continue
            if read.phase is Phase.CONTEXT or self.slots[name].due is not None:
                return True
        return False

    def _ask(self, slot: Slot, runner: SourceRunner, why: Trigger) -> None:
        slot.due = None
        slot.asked_for = why
        # Until this call says when the next one is due, none is.
        slot.retry_at = slot.refresh_at = FOREVER
        if slot.askable:
            self.counts.run(slot.id)
            runner.start()
        elif runner.source.reconsiders:
            self.reconsider(slot, runner)
            if slot.due is not None:  # it asked for itself, and would for ever
                slot.begun_at = self.clock.monotonic()

    # What is held

    def commit_items(self, slot: Slot, answer: Answer | Sequence[FeedItem], now: datetime) -> None:
        """A new list in the place of the old. Raises BadAnswer, and then leaves the old one."""
        items, next_change_at = answered_items(answer)
        admitted, flaw = admit_items(slot.id, slot.items, items, self.limits, now)
        if flaw is not None and flaw.limit:
            self.counts.limit(flaw.limit)
        slot.next_change_at = wake_at(next_change_at, now)
        slot.inherited &= ~ITEMS
        self.put_items(slot, admitted)
        if (flaw is not None or slot.items_flaw is not None) and slot.flawed(ITEMS, flaw, now):
            self.note(slot)
        if admitted.next_expiry is not None or next_change_at is not None:
            self.alarm.set_wall(slot.wall_wake())

    def put_items(self, slot: Slot, items: Items) -> None:
        """The one place where a source's items change."""
        if items is not slot.items:
            if slot.blocked is None:
                self.items_size += items.size - slot.items.size
            slot.items = items
            self.changes += 1

    def commit_context(self, slot: Slot, entries: Sequence[ContextEntry]) -> None:
        """The same for context; those that read it are looked at."""
        admitted, flaw = admit_context(slot.id, slot.context, entries, self.limits)
        slot.context = admitted
        slot.inherited &= ~CONTEXT
        if slot.flawed(CONTEXT, flaw, self.now()):
            self.note(slot)
        self.show_context(slot)

    def show_context(self, slot: Slot) -> None:
        """Puts what the source holds into the context, or takes it out while the source is blocked."""
        wanted = () if slot.blocked is not None else slot.context
        if wanted is slot.shown_context:
            return
        # A source that has seen everything but its own news has seen everything.
        has_seen_all = slot.seen_version == self.context.version
        changed = self.context.replace(slot.shown_context, wanted)
        slot.shown_context = wanted
        if has_seen_all:
            slot.seen_version = self.context.version
        if changed:
            self.changes += 1
            for name in self.plan.dependents.get(slot.id, ()):
                self.check_input(self.slots[name])

    def withdraw(self, slot: Slot, parts: int) -> None:
        """Takes halves of a report out of the feed; not those that nobody could give again."""
        parts &= slot.askable & slot.held
        slot.inherited &= ~parts
        if parts & ITEMS:
            self.put_items(slot, NO_ITEMS)
            slot.items_key = UNKNOWN
            slot.next_change_at = None
        if parts & CONTEXT:
            slot.context = ()
            slot.context_key = UNKNOWN
            self.show_context(slot)

    def check_input(self, slot: Slot) -> None:
        """The context changed: whoever reads what changed is to be asked again."""
        runner = slot.runner
        if runner is None or slot.blocked is not None or not (slot.askable or runner.source.reconsiders):
            return
        busy = runner.phase is not Phase.IDLE
        if busy and slot.failure is None:
            return  # compared when the run ends
        try:
            key = runner.input_key(self.view())
        except SourceFailure as failure:
            self.fail(slot, failure)
            return
        if slot.failure is not None:
            self.withdraw(slot, slot.outdated(key))
            if slot.failure.code == "rateLimited":
                return  # a new question is one more call all the same
        if not busy and key != slot.asked_key:
            self.make_due(slot, "context")

    def fail(self, slot: Slot, failure: SourceFailure) -> None:
        """A call without an answer. What was reported before stays while it is young and its input is what it
        was: no blank for one timeout, no old weather beside a new place."""
        self.counts.failure(slot.id, failure.code)
        now = self.now()
        slot.failed(failure, now, self.clock.monotonic(), self.rng.random())
        self.note(slot)
        self.arm(slot)
        if slot.is_stale(now):
            self.withdraw(slot, BOTH)
        elif slot.runner is not None:
            try:
                self.withdraw(slot, slot.outdated(slot.runner.input_key(self.view())))
            except SourceFailure:
                return  # it cannot even say what it depends on

    def reconsider(self, slot: Slot, runner: SourceRunner) -> None:
        """Asks the source what time has changed."""
        slot.next_change_at = None
        ctx = self.view()
        try:
            slot.asked_key = key = runner.input_key(ctx)
            answer = runner.reconsider(ctx)
            if answer is not None:
                self.commit_items(slot, answer, ctx.time)
            slot.items_key = key
            if slot.answered(ctx.time):
                self.note(slot)
        except SourceFailure as failure:
            self.fail(slot, failure)

    # Time

    def arm(self, slot: Slot) -> None:
        """Has the alarm ring in time for this source."""
        self.alarm.set_wall(slot.wall_wake())
        self.alarm.set(slot.ask_at(self.listening))

    def tick(self, now: datetime, now_s: float) -> None:
        """Does what has come due. To be called inside a step."""
        self.look = True
        for slot in self.shown:
            self._expire(slot, now)
            runner = slot.runner
            if runner is None:
                continue
            if slot.next_change_at is not None and slot.next_change_at <= now:
                self.changes += 1  # processors see the new time even where the source has nothing to say
                slot.next_change_at = None
                if runner.source.reconsiders:
                    self.reconsider(slot, runner)
            if slot.ask_at(self.listening) <= now_s:
                self.make_due(slot, "refresh" if slot.failure is None else "retry")

    def _expire(self, slot: Slot, now: datetime) -> None:
        self.put_items(slot, slot.items.unexpired(now))
        if slot.is_failing and slot.is_stale(now):
            self.withdraw(slot, BOTH)
        if slot.inherited_until is not None and slot.inherited_until <= now:
            slot.inherited_until = None
            self.disinherit(slot)

    def disinherit(self, slot: Slot) -> None:
        """Lets go of what an earlier instance reported and this one cannot be asked for."""
        parts = slot.inherited & ~slot.askable
        slot.inherited &= ~parts
        if parts & ITEMS:
            self.put_items(slot, NO_ITEMS)
        if parts & CONTEXT:
            slot.context = ()
            self.show_context(slot)


def _nobody(_source: SourceId | None, _trigger: Trigger) -> None:
    """There is nobody to be told any more."""
