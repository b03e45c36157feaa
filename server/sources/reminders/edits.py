"""What the actions do to a reminder: one value in, new values out. Pure.

An edit of a series has a scope: the one occurrence, that one and all after it, or all. The middle one ends
the series before the occurrence and begins a new one there, so that what was done stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from server.engine.source import SourceFailure
from server.sources.reminders.model import NO_OVERRIDES, Override, Priority, Reminder
from server.sources.reminders.recurrence import EARLIEST, LATEST, Occurrence, Recurrence, Series
from server.sources.zones import instant, whole_ms, zone

__all__ = [
    "KEEP",
    "MAX_OVERRIDES",
    "Deleted",
    "Keep",
    "Patch",
    "ReminderRefused",
    "Scope",
    "Split",
    "complete",
    "created",
    "deleted",
    "resolved_due",
    "updated",
]

Scope: TypeAlias = Literal["this-occurrence", "this-and-future", "entire-series"]

# Past these the oldest are forgotten: a series that is ticked off every day would grow without end. It is far
# more than the days that a window and the search for missed ones before it can cover.
MAX_OVERRIDES: Final = 200


class ReminderRefused(SourceFailure):
    """What was asked for does not fit the reminder."""

    code = "config"


class Keep:
    """What a patch says of a field that it leaves alone (None would mean: take it away)."""

    __slots__ = ()


KEEP: Final = Keep()


@dataclass(frozen=True, slots=True)
class Patch:
    """Changes to a reminder. `due_at` without a zone is wall-clock time in the reminder's."""

    title: str | Keep = KEEP
    notes: str | Keep | None = KEEP
    due_at: datetime | Keep = KEEP
    time_zone: str | Keep = KEEP
    recurrence: Recurrence | Keep | None = KEEP
    priority: Priority | Keep = KEEP

    @property
    def retimes(self) -> bool:
        """Whether it touches when the reminder is due."""
        return not all(isinstance(part, Keep) for part in (self.due_at, self.time_zone, self.recurrence))


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
    series = None if recurrence is None else _some(Series.starting(due, where, recurrence))
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


def resolved_due(due_at: datetime, where: ZoneInfo) -> datetime:
    """The instant that is meant; without a zone, wall-clock time there. Raises ReminderRefused if out of
    bounds."""
    if not EARLIEST.year < due_at.year < LATEST.year:
        raise ReminderRefused(
            f"a reminder is due between the years {EARLIEST.year + 1} and {LATEST.year - 1}"
        )
    return whole_ms(instant(due_at, where) if due_at.tzinfo is None else due_at)


def _wholly_updated(reminder: Reminder, patch: Patch) -> Reminder:
    """The patch on all of it: texts first, then when it is due."""
    fresh = replace(
        reminder,
        title=reminder.title if isinstance(patch.title, Keep) else patch.title,
        notes=reminder.notes if isinstance(patch.notes, Keep) else patch.notes,
        priority=reminder.priority if isinstance(patch.priority, Keep) else patch.priority,
    )
    return _retimed(fresh, patch) if patch.retimes else fresh


def _retimed(reminder: Reminder, patch: Patch) -> Reminder:
    time_zone = reminder.time_zone if isinstance(patch.time_zone, Keep) else patch.time_zone
    where = zone(time_zone)
    due = reminder.due_at if isinstance(patch.due_at, Keep) else resolved_due(patch.due_at, where)
    old = reminder.series
    rule = (old.rule if old else None) if isinstance(patch.recurrence, Keep) else patch.recurrence
    fresh = replace(reminder, due_at=due, time_zone=time_zone)
    if rule is None:
        return _made_single(fresh, reminder)
    series = _new_series(old, due, where, rule, rule_is_new=not isinstance(patch.recurrence, Keep))
    fresh = replace(fresh, series=series, due_at=series.first_due, completed_at=None)
    if old is None:
        done = reminder.completed_at
        return (
            fresh
            if done is None
            else replace(fresh, overrides={series.first_due: Override(completed_at=done)})
        )
    return replace(fresh, overrides=_carried_over(reminder.overrides, old, series))


def _made_single(fresh: Reminder, before: Reminder) -> Reminder:
    if before.series is None:
        return fresh
    done = before.override(before.due_at).completed_at
    return replace(fresh, series=None, overrides=NO_OVERRIDES, completed_at=done)


def _new_series(
    old: Series | None, due: datetime, where: ZoneInfo, rule: Recurrence, *, rule_is_new: bool
) -> Series:
    if old is None:
        return _some(Series.starting(due, where, rule))
    if due == old.first_due and where.key == old.zone.key:
        # The anchor knows more than its instant: a skipped time of day, the 31st in a short month.
        return _some(old.ruled_by(rule))
    if not rule_is_new and rule.weekdays is not None:
        rule = replace(rule, weekdays=_moved_weekdays(rule.weekdays, old.anchor, due.astimezone(where)))
    return _some(Series.starting(due, where, rule))


def _moved_weekdays(weekdays: tuple[int, ...], before: datetime, after: datetime) -> tuple[int, ...]:
    """With the weekday of the first occurrence moved to where that was moved."""
    old, new = before.isoweekday() % 7, after.isoweekday() % 7
    return tuple(sorted({new if day == old else day for day in weekdays}))


def _carried_over(
    overrides: Mapping[datetime, Override], old: Series, new: Series
) -> Mapping[datetime, Override]:
    """What was done to single occurrences, under their new dues: by number where the rule is the same, else
    those that the new rule has too."""
    if not overrides:
        return NO_OVERRIDES
    if _rhythm(old) != _rhythm(new):
        return {due: own for due, own in overrides.items() if new.find(due) is not None}
    numbers = {due: one.number for due in overrides if (one := old.find(due)) is not None}
    if not numbers:
        return NO_OVERRIDES
    first, last = min(numbers.values()), max(numbers.values())
    dues = {one.number: one.due for one in islice(new.from_number(first), last - first + 1)}
    return {dues[number]: overrides[due] for due, number in numbers.items() if number in dues}


def _rhythm(series: Series) -> tuple[str, int, int]:
    rule = series.rule
    return rule.frequency, rule.interval, len(rule.weekdays or (0,))


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


def _some(series: Series) -> Series:
    if next(series.starting_at(EARLIEST), None) is None:
        raise ReminderRefused("the recurrence ends before the reminder is first due")
    return series


def _forgetful(reminder: Reminder) -> Reminder:
    excess = len(reminder.overrides) - MAX_OVERRIDES
    if excess <= 0:
        return reminder
    kept = sorted(reminder.overrides)[excess:]
    return replace(reminder, overrides={due: reminder.overrides[due] for due in kept})
