"""What the actions do to a reminder: one value in, new values out. Pure.

An edit of a series has a scope: the one occurrence, that one and all after it, or all. The middle one ends
the series before the occurrence and begins a new one there, so that what was done stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias

from server.sources.reminders.model import Override, Priority, Reminder
from server.sources.reminders.recurrence import Occurrence, Recurrence, Series
from server.sources.reminders.retiming import (
    Keep,
    Patch,
    ReminderRefused,
    resolved_due,
    retimed,
    with_occurrences,
)
from server.sources.zones import zone

__all__ = [
    "MAX_OVERRIDES",
    "Deleted",
    "Scope",
    "Split",
    "complete",
    "created",
    "deleted",
    "updated",
]

Scope: TypeAlias = Literal["this-occurrence", "this-and-future", "entire-series"]

# Past these the oldest are forgotten: a series that is ticked off every day would grow without end. It is far
# more than the days that a window and the search for missed ones before it can cover.
MAX_OVERRIDES: Final = 200


@dataclass(frozen=True, slots=True)
class Split:
    """A series that was cut in two."""

    original: Reminder
    future: Reminder


@dataclass(frozen=True, slots=True)
class Deleted:
    """A reminder that is no more."""

    id: str


def created(
    reminder_id: str,
    title: str,
    due_at: datetime,
    time_zone: str,
    *,
    notes: str | None = None,
    recurrence: Recurrence | None = None,
    priority: Priority = "normal",
) -> Reminder:
    """A new reminder. A weekly one that is due on none of its weekdays begins on the next of them."""
    where = zone(time_zone)
    due = resolved_due(due_at, where)
    series = None if recurrence is None else with_occurrences(Series.starting(due, where, recurrence))
    return Reminder(
        id=reminder_id,
        title=title,
        notes=notes,
        due_at=due if series is None else series.first_due,
        time_zone=time_zone,
        priority=priority,
        series=series,
    )


def updated(
    reminder: Reminder, scope: Scope, occurrence_due: datetime | None, patch: Patch, new_id: str
) -> Reminder | Split:
    """The reminder with a patch applied to as much of it as the scope says.

    `new_id` is for the second half of a split. Raises ReminderRefused.
    """
    series = reminder.series
    if series is None or scope == "entire-series":
        _check_due(reminder, occurrence_due)
        return _wholly_updated(reminder, patch)
    one = _occurrence(reminder, series, occurrence_due)
    if scope == "this-occurrence":
        return _forgetful(reminder.with_override(one.due, _patched_override(reminder, one.due, patch)))
    fresh = reminder.with_override(one.due, _without_patched(reminder.override(one.due), patch))
    if one.number == 0:
        return _wholly_updated(fresh, patch)
    return Split(
        _ended_before(reminder, series, one), _wholly_updated(_begun_at(fresh, series, one, new_id), patch)
    )


def deleted(reminder: Reminder, scope: Scope, occurrence_due: datetime | None) -> Reminder | Deleted:
    """What is left when as much as the scope says is taken away. Raises ReminderRefused."""
    series = reminder.series
    if series is None or scope == "entire-series":
        _check_due(reminder, occurrence_due)
        return Deleted(reminder.id)
    one = _occurrence(reminder, series, occurrence_due)
    if scope == "this-occurrence":
        return _forgetful(reminder.with_override(one.due, Override(deleted=True)))
    if one.number == 0:
        return Deleted(reminder.id)
    return _ended_before(reminder, series, one)


def complete(reminder: Reminder, occurrence_due: datetime | None, at: datetime | None) -> Reminder:
    """With that occurrence done at `at`, or not done (None). Raises ReminderRefused."""
    series = reminder.series
    if series is None:
        _check_due(reminder, occurrence_due)
        return replace(reminder, completed_at=at)
    one = _occurrence(reminder, series, occurrence_due)
    own = replace(reminder.override(one.due), completed_at=at)
    return _forgetful(reminder.with_override(one.due, own))


def _wholly_updated(reminder: Reminder, patch: Patch) -> Reminder:
    """The patch on all of it: texts first, then when it is due."""
    fresh = replace(
        reminder,
        title=reminder.title if isinstance(patch.title, Keep) else patch.title,
        notes=reminder.notes if isinstance(patch.notes, Keep) else patch.notes,
        priority=reminder.priority if isinstance(patch.priority, Keep) else patch.priority,
    )
    return retimed(fresh, patch) if patch.retimes else fresh


def _ended_before(reminder: Reminder, series: Series, one: Occurrence) -> Reminder:
    return replace(
        reminder,
        series=replace(series, rule=replace(series.rule, count=one.number)),
        overrides={due: own for due, own in reminder.overrides.items() if due < one.due},
    )


def _begun_at(reminder: Reminder, series: Series, one: Occurrence, new_id: str) -> Reminder:
    """The rest of a series as one of its own, that falls due when the old one would have."""
    count = series.rule.count
    rule = replace(series.rule, count=None if count is None else count - one.number)
    return replace(
        reminder,
        id=new_id,
        due_at=one.due,
        series=replace(series, anchor=one.wall, rule=rule),
        overrides={due: own for due, own in reminder.overrides.items() if due >= one.due},
    )


def _patched_override(reminder: Reminder, due: datetime, patch: Patch) -> Override:
    if not isinstance(patch.recurrence, Keep) or not isinstance(patch.time_zone, Keep):
        raise ReminderRefused(
            "recurrence and time zone belong to the series: they can't change for one occurrence"
        )
    own = reminder.override(due)
    moved = (
        own.due_at if isinstance(patch.due_at, Keep) else resolved_due(patch.due_at, zone(reminder.time_zone))
    )
    return replace(
        own,
        title=own.title if isinstance(patch.title, Keep) else patch.title,
        notes=own.notes if isinstance(patch.notes, Keep) else patch.notes or "",
        due_at=None if moved == due else moved,
        priority=own.priority if isinstance(patch.priority, Keep) else patch.priority,
    )


def _without_patched(own: Override, patch: Patch) -> Override:
    """Without what the patch sets anew: whoever changes this one and all after it means this one too."""
    return replace(
        own,
        title=own.title if isinstance(patch.title, Keep) else None,
        notes=own.notes if isinstance(patch.notes, Keep) else None,
        due_at=own.due_at if isinstance(patch.due_at, Keep) else None,
        priority=own.priority if isinstance(patch.priority, Keep) else None,
    )


def _occurrence(reminder: Reminder, series: Series, due: datetime | None) -> Occurrence:
    if due is None:
        raise ReminderRefused("occurrenceDueAt says which occurrence of the series is meant")
    found = series.find(due)
    if found is None or reminder.override(due).deleted:
        raise ReminderRefused("the series has no occurrence that was first due then")
    return found


def _check_due(reminder: Reminder, due: datetime | None) -> None:
    if due is not None and reminder.series is None and due != reminder.due_at:
        raise ReminderRefused("the reminder is not due then")


def _forgetful(reminder: Reminder) -> Reminder:
    excess = len(reminder.overrides) - MAX_OVERRIDES
    if excess <= 0:
        return reminder
    kept = sorted(reminder.overrides)[excess:]
    return replace(reminder, overrides={due: reminder.overrides[due] for due in kept})
