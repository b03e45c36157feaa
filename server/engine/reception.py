"""Where sources' reports come in: each is committed in one synchronous step of the roster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime

from protocol.feed import ContextEntry, FeedItem
from server.engine.clock import Clock
from server.engine.context import Context
from server.engine.report import Flaw
from server.engine.roster import Roster
from server.engine.runner import Phase, SourceRunner
from server.engine.schedule import refresh_delay_s
from server.engine.slot import CONTEXT, ITEMS, UNKNOWN, Slot
from server.engine.source import Answer, BadAnswer, SourceFailure
from server.engine.tasks import TaskScope

__all__ = ["Reception"]


class Reception:
    """The `RunnerHost` of all runners of one feed."""

    __slots__ = ("_roster", "clock", "tasks")

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.clock: Clock = roster.clock
        self.tasks: TaskScope = roster.tasks

    def view(self) -> Context:
        """See RunnerHost."""
        return self._roster.view()

    # What was asked for

    def run_began(self, runner: SourceRunner, key: Hashable) -> None:
        """See RunnerHost."""
        roster = self._roster
        slot = roster.slots[runner.name]
        slot.begun_at = self.clock.monotonic()
        slot.asked_key = key
        slot.seen_version = roster.context.version
        every_s = runner.source.refresh_every_s
        slot.refresh_at = slot.begun_at + refresh_delay_s(every_s, roster.rng.random())

    def context_fetched(
        self, runner: SourceRunner, entries: Sequence[ContextEntry] | None, key: Hashable
    ) -> None:
        """See RunnerHost. Raises BadAnswer."""
        roster = self._roster
        slot = roster.slots[runner.name]
        roster.begin(slot.id, slot.asked_for)
        try:
            if entries is not None:
                roster.commit_context(slot, entries)
            slot.inherited &= ~CONTEXT
            slot.context_key = key
            roster.look = True
        finally:
            roster.end()

    def run_answered(
        self, runner: SourceRunner, answer: Answer | Sequence[FeedItem] | None, key: Hashable
    ) -> None:
        """See RunnerHost. Raises BadAnswer."""
        roster = self._roster
        slot = roster.slots[runner.name]
        roster.begin(slot.id, slot.asked_for)
        try:
            now = self._roster.now()
            if answer is not None:
                roster.commit_items(slot, answer, now)
            slot.inherited &= ~ITEMS
            slot.items_key = key
            if slot.answered(now):
                roster.note(slot)
        finally:
            roster.end()

    def run_failed(self, runner: SourceRunner, failure: SourceFailure) -> None:
        """See RunnerHost."""
        roster = self._roster
        slot = roster.slots[runner.name]
        roster.begin(slot.id, slot.asked_for)
        try:
            roster.fail(slot, failure)
        finally:
            roster.end()

    def run_ended(self, runner: SourceRunner) -> None:
        """See RunnerHost."""
        roster = self._roster
        slot = roster.slots[runner.name]
        roster.begin(slot.id, "context")
        try:
            roster.look = True
            roster.arm(slot)
            if runner.again and slot.blocked is None:
                roster.make_due(slot, "refresh")
            elif roster.context.version != slot.seen_version:
                roster.check_input(slot)
        finally:
            roster.end()

    # What sources report by themselves

    def context_pushed(self, runner: SourceRunner, entries: Sequence[ContextEntry]) -> None:
        """See RunnerHost."""
        roster = self._roster
        slot = roster.slots[runner.name]
        roster.begin(slot.id, "push")
        try:
            roster.commit_context(slot, entries)
            slot.context_key = self._key_of_push(slot, runner, CONTEXT)
            self._pushed(slot, self._roster.now())
        except BadAnswer as wrong:
            self._refuse(slot, CONTEXT, wrong)
        finally:
            roster.end()

    def items_pushed(self, runner: SourceRunner, answer: Answer | Sequence[FeedItem]) -> None:
        """See RunnerHost."""
        roster = self._roster
        slot = roster.slots[runner.name]
        roster.begin(slot.id, "push")
        try:
            now = self._roster.now()
            roster.commit_items(slot, answer, now)
            if slot.needs or slot.uses:
                slot.items_key = self._key_of_push(slot, runner, ITEMS)
            else:
                slot.items_key = UNKNOWN
            self._pushed(slot, now)
        except BadAnswer as wrong:
            self._refuse(slot, ITEMS, wrong)
        finally:
            roster.end()

    def refresh_requested(self, runner: SourceRunner) -> None:
        """See RunnerHost."""
        roster = self._roster
        slot = roster.slots[runner.name]
        if slot.blocked is not None:
            return  # it is asked when it comes back
        roster.begin(slot.id, "refresh")
        try:
            if runner.phase is Phase.IDLE:
                roster.make_due(slot, "refresh")
            else:
                runner.again = True
        finally:
            roster.end()

    def _pushed(self, slot: Slot, now: datetime) -> None:
        self._roster.counts.pushes += 1
        if slot.answered(now):
            self._roster.note(slot)
            self._roster.arm(slot)

    def _refuse(self, slot: Slot, part: int, wrong: BadAnswer) -> None:
        """Nonsense that was pushed: the source, which may be in the middle of anything, is not told."""
        if slot.flawed(part, Flaw("badAnswer", wrong.message), self._roster.now()):
            self._roster.note(slot)

    def _key_of_push(self, slot: Slot, runner: SourceRunner, part: int) -> Hashable:
        """The input that a push fits: the present one. Only asked for where it will be compared."""
        if not (slot.needs or slot.uses) or not slot.askable & part:
            return UNKNOWN
        try:
            return runner.input_key(self.view())
        except SourceFailure:
            return UNKNOWN
