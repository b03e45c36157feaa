"""Who is in the feed: sources come, are swapped in their place, cannot be built, go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache

from anyio import Event

from protocol.feed import SourceError
from protocol.ids import SourceId
from server.engine.graph import Blocked, plan
from server.engine.report import NO_ITEMS, Fingerprint, SavedSource, admit_context, admit_items
from server.engine.roster import Roster
from server.engine.runner import RunnerHost, SourceRunner, as_failure
from server.engine.schedule import FOREVER
from server.engine.slot import BOTH, UNKNOWN, Slot, Trigger
from server.engine.source import FeedSource, SourceFailure
from server.engine.status import SourceState, Step

__all__ = ["Membership"]


class Membership:
    """Changes a roster. Each call is one step of it."""

    __slots__ = ("_all_closed", "_closing", "_host", "_places", "_roster", "_strangers")

    def __init__(self, roster: Roster, host: RunnerHost, order: Sequence[SourceId]) -> None:
        self._roster = roster
        self._host = host
        self._places = _places(tuple(order))
        self._strangers = 0
        self._closing = 0
        self._all_closed: Event | None = None

    # Coming

    def place(
        self, name: SourceId, source: FeedSource, why: Trigger, saved: SavedSource | None, ask: bool
    ) -> None:
        """Takes a source in, into its old place where there was one.

        What its predecessor reported, or what was saved, is shown until its own first answer.
        """
        roster = self._roster
        roster.begin(name, why)
        try:
            slot = self._slot(name)
            self._hold(slot, saved)
            self._succeed(slot, source)
            self._rearrange()
            self._attach(slot, source)
            if slot.blocked is None:
                self._welcome(slot, why, ask)
            if slot.inherited & ~slot.askable:
                # Nobody can be asked for it. After a restart it stays while it is young; but after a swap
                # only until the caller, who may go on to hand the new instance its rows, has returned.
                kept = timedelta(seconds=source.stale_after_s if saved is not None else 0)
                slot.inherited_until = (slot.last_ok_at or roster.now()) + kept
            roster.arm(slot)
        finally:
            roster.end()

    def fail_build(self, name: SourceId, error: SourceError, saved: SavedSource | None) -> None:
        """Shows a source that could not be built as failing, beside what is held of it."""
        roster = self._roster
        roster.begin(name, "fail")
        try:
            slot = self._slot(name)
            self._hold(slot, saved)
            slot.build_error = error
            roster.note(slot)
            self._rearrange()
            roster.arm(slot)
        finally:
            roster.end()

    def _slot(self, name: SourceId) -> Slot:
        slots = self._roster.slots
        slot = slots.get(name)
        if slot is None:
            place = self._places.get(name)
            if place is None:
                place = len(self._places) + self._strangers
                self._strangers += 1
            slot = slots[name] = Slot(name, place)
        return slot

    def _hold(self, slot: Slot, saved: SavedSource | None) -> None:
        if saved is None or slot.runner is not None or slot.held:
            return
        roster = self._roster
        slot.items, _ = admit_items(slot.id, NO_ITEMS, saved.items, roster.limits, roster.now())
        slot.context, _ = admit_context(slot.id, (), saved.context, roster.limits)
        slot.last_ok_at = saved.saved_at
        key = UNKNOWN if saved.input_key is None else Fingerprint(saved.input_key)
        slot.items_key = slot.context_key = key

    def _succeed(self, slot: Slot, source: FeedSource) -> None:
        """The new instance takes the place of the old; nothing of the old one's troubles stays."""
        roster = self._roster
        slot.swapped = slot.runner is not None
        if slot.runner is None:
            slot.took(Step.ADD)
        else:
            slot.took(Step.SWAP)
            self._rekey(slot, slot.runner)
            self._let_go(slot.runner)
        slot.runner = SourceRunner(slot.id, source, self._host)
        slot.needs, slot.uses = _reads(tuple(source.dependencies), tuple(source.uses))
        slot.inherited = slot.held
        slot.inherited_until = None
        slot.next_change_at = None
        slot.forgive()
        slot.build_error = None
        slot.due = None
        slot.begun_at = -FOREVER
        slot.refresh_at = FOREVER
        slot.asked_key = UNKNOWN
        roster.note(slot)

    def _rekey(self, slot: Slot, old: SourceRunner) -> None:
        """Two instances need not have one idea of an input key: what was right by the old one's is right by
        the new one's, whatever that is."""
        try:
            outdated = slot.outdated(old.input_key(self._roster.view()))
        except SourceFailure:
            outdated = 0
        slot.rekey(outdated)

    def _attach(self, slot: Slot, source: FeedSource) -> None:
        runner = slot.runner
        assert runner is not None
        try:
            source.attach(runner)
        except BaseException as raised:  # a foreign call: whatever it raises is its failure
            failure = as_failure(raised, slot.id)
            now = self._roster.now()
            slot.build_error = SourceError(slot.id, failure.code, failure.message, now)
            self._roster.note(slot)

    def _welcome(self, slot: Slot, why: Trigger, ask: bool) -> None:
        roster = self._roster
        if not slot.askable:
            slot.took(Step.ANSWER)  # it has nothing to be waited for
        elif ask:
            roster.make_due(slot, why)
        else:
            slot.refresh_at = roster.clock.monotonic()  # with the first who listens

    # Going

    def remove(self, name: SourceId) -> bool:
        """Takes a source out, with all it reported, and closes it in the background. False: there is none."""
        roster = self._roster
        slot = roster.slots.pop(name, None)
        if slot is None:
            return False
        roster.begin(name, "remove")
        try:
            slot.took(Step.REMOVE)
            if slot.runner is not None:
                self._let_go(slot.runner)
            roster.note(slot)
            # Those that need it are blocked before its context goes, so that none is asked about the gap.
            self._rearrange()
            slot.context = ()
            roster.show_context(slot)
        finally:
            roster.end()
        return True

    async def aclose(self) -> None:
        """Lets everything go, and returns when every source has been closed (or has had its time)."""
        roster = self._roster
        if not roster.closed:
            roster.closed = True
            for slot in roster.slots.values():
                if slot.runner is not None:
                    self._let_go(slot.runner)
        while self._closing:
            self._all_closed = self._all_closed or Event()
            await self._all_closed.wait()

    def turn_away(self, name: SourceId, source: FeedSource) -> None:
        """Closes a source that was never taken in."""
        self._let_go(SourceRunner(name, source, self._host))

    def _let_go(self, runner: SourceRunner) -> None:
        runner.close()
        if runner.close_at_once():
            return
        self._closing += 1
        self._roster.tasks.start(self._close, runner, name=f"close {runner.name}")

    async def _close(self, runner: SourceRunner) -> None:
        try:
            await runner.aclose(self._roster.limits.close_timeout_s)
        finally:
            self._closing -= 1
            if not self._closing and self._all_closed is not None:
                self._all_closed.set()
                self._all_closed = None

    # Who needs whom

    def _rearrange(self) -> None:
        """Blocks those that lost what they need, and brings back those that have it again."""
        roster = self._roster
        slots = sorted(roster.slots.values(), key=_by_place)
        uses = tuple([(slot.id, slot.uses) for slot in slots if slot.uses])
        roster.plan = plan(tuple([(slot.id, slot.needs) for slot in slots]), uses)
        for name, reason in roster.plan.blocked.items():
            self._block(roster.slots[name], reason)
        for name in roster.plan.blocked:
            roster.show_context(roster.slots[name])
        roster.show(tuple([roster.slots[name] for name in roster.plan.order]))
        for slot in roster.shown:
            if slot.blocked is not None:
                self._unblock(slot)
            # Before those that read it come back, in this same order.
            roster.show_context(slot)

    def _block(self, slot: Slot, reason: Blocked) -> None:
        if slot.blocked is None:
            slot.took(Step.BLOCK)
            slot.forgive()
            slot.due = None
            assert slot.runner is not None  # without one it needs nothing
            slot.runner.stop()
        if slot.blocked != reason:
            slot.blocked = reason
            self._roster.note(slot)

    def _unblock(self, slot: Slot) -> None:
        roster = self._roster
        slot.blocked = None
        slot.took(Step.UNBLOCK)
        roster.note(slot)
        now = roster.now()
        roster.put_items(slot, slot.items.unexpired(now))
        if slot.is_stale(now):
            roster.withdraw(slot, BOTH)
        if slot.askable:
            roster.make_due(slot, "context")
        elif slot.state is SourceState.STARTING:
            slot.took(Step.ANSWER)
        roster.arm(slot)


# The same for all sources of a kind, which share it.
@lru_cache(maxsize=1024)
def _reads(
    needs: tuple[str, ...], uses: tuple[str, ...]
) -> tuple[tuple[SourceId, ...], tuple[SourceId, ...]]:
    """What a source needs and what it uses beside that, each once."""
    needed = dict.fromkeys([SourceId(name) for name in needs])
    used = dict.fromkeys([SourceId(name) for name in uses if name not in needed])
    return tuple(needed), tuple(used)


def _by_place(slot: Slot) -> int:
    return slot.place


# One for all feeds of the process, which all know the same providers.
@lru_cache(maxsize=64)
def _places(order: tuple[SourceId, ...]) -> Mapping[SourceId, int]:
    return {name: index for index, name in enumerate(order)}
