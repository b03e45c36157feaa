"""freya.reminders: what the user wants to be reminded of, shown around its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, TypeVar
from uuid import uuid4

import anyio.lowlevel
import structlog
from pydantic import BaseModel

from protocol.feed import FeedItem, Signals
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from protocol.times import to_wire
from server.engine.context import Context
from server.engine.source import ActionSpec, Answer, SourceFailure
from server.sources.item_types import REMINDER
from server.sources.provider import FeedProvider
from server.sources.reminders import edits
from server.sources.reminders.actions import (
    ACTIONS,
    CompleteReminder,
    CreateReminder,
    DeleteReminder,
    UncompleteReminder,
    UpdateReminder,
)
from server.sources.reminders.config import RemindersConfig
from server.sources.reminders.edits import Deleted, Split
from server.sources.reminders.model import (
    Reminder,
    from_stored,
    occurrence_wire,
    reminder_wire,
    to_stored,
)
from server.sources.reminders.retiming import ReminderRefused
from server.sources.reminders.window import Shown, Visible, signals_at, visible
from server.sources.services import Services
from server.sources.stored import StoredSource
from server.sources.user import USER_ID, user_settings
from server.sources.zones import whole_ms
from storage import reminders as rows_of_reminders
from storage.database import WriteTx
from storage.loading import UserRows
from storage.reminders import ReminderRow

__all__ = ["RemindersProvider", "RemindersSource"]

T = TypeVar("T")

_ID: Final = SourceId("freya.reminders")

# An expansion takes up to a few hundred microseconds: so many of them hold the event loop for a few
# milliseconds at most, and the rest follow in later turns.
_AT_ONCE: Final = 20
_SOON: Final = timedelta(milliseconds=5)
# Of daily reminders a month ahead: nobody reads that far, and a feed has room for 2,000 items of all sources.
_ITEMS_MAX: Final = 1000

_log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    """A reminder as it was read, and what was last worked out of it."""

    row: ReminderRow
    reminder: Reminder
    visible: Visible | None = None

    def is_stale(self, now: datetime) -> bool:
        changes_at = self.visible and self.visible.changes_at
        return self.visible is None or (changes_at is not None and changes_at <= now)


class RemindersSource(StoredSource):
    """One user's reminders."""

    id = _ID
    uses = (USER_ID,)
    refresh_every_s = 0

    def __init__(self, user: UserId, config: RemindersConfig, services: Services) -> None:
        self._user = user
        self._config = config
        self._window = config.window()
        self._services = services
        self._kept: dict[str, _Kept] = {}
        self._items: dict[tuple[str, datetime], tuple[Reminder, Signals, FeedItem]] = {}
        self._users_zone = "UTC"
        self.answers_at_once = True

    # -- what is shown

    def restore(self, rows: UserRows) -> None:
        kept = {row.id: one for row in rows.reminders if (one := self._read(row)) is not None}
        if kept.keys() == self._kept.keys() and all(one is self._kept[name] for name, one in kept.items()):
            return
        self._kept = kept
        self.answers_at_once = len(kept) <= _AT_ONCE
        if self.attached:
            self.handle.push_items(self._answer(self.handle.now()))

    def input_key(self, ctx: Context) -> str:
        return user_settings(ctx).zone.key

    async def fetch_items(self, ctx: Context) -> Answer:
        self._users_zone = user_settings(ctx).zone.key
        if self.answers_at_once:
            return self._answer(ctx.time)
        while self._work_out(ctx.time):
            await anyio.lowlevel.checkpoint()
        # The same for items that are yet to be made: `_answer` finds them ready.
        for number, (one, reminder) in enumerate(self._shown()):
            if number % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
            signals, _ = signals_at(one, ctx.time)
            self._items[reminder.id, one.original_due] = self._kept_item(reminder, one, signals)
        return self._answer(ctx.time)

    def reconsider(self, ctx: Context) -> Answer:
        return self._answer(ctx.time)

    def _read(self, row: ReminderRow) -> _Kept | None:
        before = self._kept.get(row.id)
        if before is not None and before.row == row:
            return before
        try:
            return _Kept(row, from_stored(row.id, row.body, row.overrides))
        except ValueError:
            # Only a row of another release gets here: it costs itself, not the others.
            _log.warning("reminder_unreadable", reminder=row.id)
            return None

    def _answer(self, now: datetime) -> Answer:
        unfinished = self._work_out(now)
        changes = [kept.visible.changes_at for kept in self._kept.values() if kept.visible is not None]
        items: dict[tuple[str, datetime], tuple[Reminder, Signals, FeedItem]] = {}
        for one, reminder in self._shown():
            signals, changes_at = signals_at(one, now)
            changes.append(changes_at)
            items[reminder.id, one.original_due] = self._kept_item(reminder, one, signals)
        self._items = items
        next_change_at = now + _SOON if unfinished else min((at for at in changes if at), default=None)
        return Answer(tuple(item for _, _, item in items.values()), next_change_at)

    def _shown(self) -> list[tuple[Shown, Reminder]]:
        """What is shown, as far as it is worked out, in order of due."""
        shown = [
            (one, kept.reminder)
            for kept in self._kept.values()
            if kept.visible is not None
            for one in kept.visible.occurrences
        ]
        shown.sort(key=lambda pair: (pair[0].due, pair[1].id, pair[0].original_due))
        return shown[:_ITEMS_MAX]

    def _work_out(self, now: datetime) -> bool:
        """Brings some of what is shown up to `now`; whether there is more to do."""
        stale = (kept for kept in self._kept.values() if kept.is_stale(now))
        for kept in islice(stale, _AT_ONCE):
            kept.visible = visible(kept.reminder, now, self._window)
        return next(stale, None) is not None

    def _kept_item(
        self, reminder: Reminder, one: Shown, signals: Signals
    ) -> tuple[Reminder, Signals, FeedItem]:
        """The item as it was made before, if nothing about it is different now."""
        before = self._items.get((reminder.id, one.original_due))
        if before is not None and before[0] is reminder and before[1] == signals:
            return before
        item = self.item(
            f"reminder-{reminder.id}-{to_wire(one.original_due)}",
            type=REMINDER,
            timestamp=one.due,
            data=occurrence_wire(reminder, one.original_due),
            signals=signals,
        )
        return reminder, signals, item

    # -- what can be done

    def actions(self) -> Sequence[ActionSpec]:
        return ACTIONS

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        match params:
            case CreateReminder():
                return await self._create(params)
            case UpdateReminder():
                return await self._update(params)
            case DeleteReminder():
                return await self._delete(params)
            case CompleteReminder():
                at = params.completed_at or whole_ms(self._services.clock.now())
                return await self._complete(params.reminder_id, params.occurrence_due_at, at)
            case UncompleteReminder():
                return await self._complete(params.reminder_id, params.occurrence_due_at, None)
            case _:
                raise SourceFailure(f"{self.id} has no action {action_id}")

    async def _create(self, params: CreateReminder) -> JsonValue:
        time_zone = params.time_zone or self._config.default_time_zone or self._users_zone
        reminder = edits.created(
            str(uuid4()),
            params.title,
            params.due_at,
            time_zone,
            notes=params.notes,
            recurrence=None if params.recurrence is None else params.recurrence.rule(),
            priority=params.priority,
        )
        await self._write(lambda tx: _insert(tx, self._user, reminder))
        return reminder_wire(reminder)

    async def _update(self, params: UpdateReminder) -> JsonValue:
        # Made here, not in the transaction: that may be run more than once.
        patch, new_id = params.patch.patch(), str(uuid4())

        async def change(tx: WriteTx) -> JsonValue:
            reminder = await self._stored(tx, params.reminder_id)
            after = edits.updated(reminder, params.scope, params.occurrence_due_at, patch, new_id)
            if isinstance(after, Split):
                await _store(tx, self._user, after.original)
                await _insert(tx, self._user, after.future)
                original, future = reminder_wire(after.original), reminder_wire(after.future)
                return {"kind": "split-reminder", "original": original, "future": future}
            await _store(tx, self._user, after)
            if params.occurrence_due_at is not None and _is_of_one(params.scope, after):
                occurrence = occurrence_wire(after, params.occurrence_due_at)
                return {"kind": "updated-occurrence", "occurrence": occurrence}
            return {"kind": "updated-reminder", "reminder": reminder_wire(after)}

        return await self._write(change)

    async def _delete(self, params: DeleteReminder) -> JsonValue:
        async def change(tx: WriteTx) -> JsonValue:
            reminder = await self._stored(tx, params.reminder_id)
            after = edits.deleted(reminder, params.scope, params.occurrence_due_at)
            if isinstance(after, Deleted):
                await rows_of_reminders.delete(tx, self._user, after.id)
                return {"kind": "deleted-reminder", "reminderId": after.id}
            await _store(tx, self._user, after)
            if params.occurrence_due_at is not None and _is_of_one(params.scope, after):
                due = to_wire(params.occurrence_due_at)
                return {"kind": "deleted-occurrence", "reminderId": after.id, "originalDueAt": due}
            return {"kind": "ended-reminder", "reminder": reminder_wire(after)}

        return await self._write(change)

    async def _complete(self, reminder_id: str, due: datetime | None, at: datetime | None) -> JsonValue:
        async def change(tx: WriteTx) -> JsonValue:
            reminder = edits.complete(await self._stored(tx, reminder_id), due, at)
            await _store(tx, self._user, reminder)
            return occurrence_wire(reminder, due or reminder.due_at)

        return await self._write(change)

    async def _stored(self, tx: WriteTx, reminder_id: str) -> Reminder:
        """As it is in the row, under the user's lock: another device may have been quicker."""
        row = await rows_of_reminders.get(tx, self._user, reminder_id)
        if row is None:
            raise ReminderRefused("there is no such reminder")
        try:
            return from_stored(row.id, row.body, row.overrides)
        except ValueError:
            raise ReminderRefused("the reminder can't be read; it was written by another release") from None

    async def _write(self, change: Callable[[WriteTx], Awaitable[T]]) -> T:
        return await self._services.writes.write(self._user, change)


def _is_of_one(scope: edits.Scope, after: Reminder) -> bool:
    return scope == "this-occurrence" and after.series is not None


async def _insert(tx: WriteTx, user: UserId, reminder: Reminder) -> None:
    body, overrides = to_stored(reminder)
    await rows_of_reminders.create(tx, user, reminder.id, body)
    if overrides:
        await rows_of_reminders.update(tx, user, reminder.id, overrides=overrides)


async def _store(tx: WriteTx, user: UserId, reminder: Reminder) -> None:
    body, overrides = to_stored(reminder)
    await rows_of_reminders.update(tx, user, reminder.id, body=body, overrides=overrides)


class RemindersProvider(FeedProvider[RemindersConfig]):
    """Makes `freya.reminders`."""

    source_id = _ID
    name = "Reminders"
    config_schema = RemindersConfig
    builds_at_once = True
    default_row = True

    async def source_for_user(
        self, user: UserId, config: RemindersConfig, credentials: BaseModel | None, services: Services
    ) -> RemindersSource:
        return RemindersSource(user, config, services)
