"""What a patch is, and what it does to when a reminder is due. Pure.

Occurrences are told apart by when they are due, so whoever moves a series has to take along what was done to
single ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from server.engine.source import SourceFailure
from server.sources.reminders.model import NO_OVERRIDES, Override, Priority, Reminder
from server.sources.reminders.recurrence import EARLIEST, LATEST, Recurrence, Series
from server.sources.zones import instant, whole_ms, zone

__all__ = ["KEEP", "Keep", "Patch", "ReminderRefused", "resolved_due", "retimed", "with_occurrences"]


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


def retimed(reminder: Reminder, patch: Patch) -> Reminder:
    """The reminder due when the patch says, with what was done to its occurrences. Raises ReminderRefused."""
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
        return with_occurrences(Series.starting(due, where, rule))
    if due == old.first_due and where.key == old.zone.key:
        # The anchor knows more than its instant: a skipped time of day, the 31st in a short month.
        return with_occurrences(old.ruled_by(rule))
    if not rule_is_new and rule.weekdays is not None:
        rule = replace(rule, weekdays=_moved_weekdays(rule.weekdays, old.anchor, due.astimezone(where)))
    return with_occurrences(Series.starting(due, where, rule))


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


def resolved_due(due_at: datetime, where: ZoneInfo) -> datetime:
    """The instant that is meant; without a zone, wall-clock time there. Raises ReminderRefused if out of
    bounds."""
    if not EARLIEST.year < due_at.year < LATEST.year:
        raise ReminderRefused(
            f"a reminder is due between the years {EARLIEST.year + 1} and {LATEST.year - 1}"
        )
    return whole_ms(instant(due_at, where) if due_at.tzinfo is None else due_at)


def with_occurrences(series: Series) -> Series:
    """The series itself. Raises ReminderRefused if it has no occurrence at all."""
    if next(series.starting_at(EARLIEST), None) is None:
        raise ReminderRefused("the recurrence ends before the reminder is first due")
    return series
