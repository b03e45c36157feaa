"""When a series falls due: pure calculation on wall clocks, no row and no clock of ours.

A series is anchored at the wall-clock time of its first occurrence, in the reminder's own zone. Every other
occurrence is at that time of day on a day of the rule, whatever the clocks of the zone do in between.
Occurrences are numbered from 0, and told apart by the instant at which they are due by the rule.

dateutil's `rrule` does the expansion, but from close to the window that is asked for, not from the anchor:
the periods of a rule (its days, weeks, months or years) are all of one length, so the one in which to start,
and the number of its first occurrence, are a division. A daily series since 1990 costs as much as one since
yesterday.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from dateutil.rrule import DAILY, MO, MONTHLY, WEEKLY, rrule

from server.sources.zones import instant

__all__ = ["EARLIEST", "LATEST", "Frequency", "Occurrence", "Recurrence", "Series"]

Frequency: TypeAlias = Literal["daily", "weekly", "monthly", "yearly"]

# What may be due: enough for anyone, and far enough from the ends of `datetime` that no sum overflows.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2300, 1, 1, tzinfo=UTC)

# No zone is further than 15 hours from UTC, and no clock was ever put on by more than a day.
_SLACK = timedelta(days=2)
_INSTANT = timedelta(microseconds=1)


class Occurrence(NamedTuple):
    """One of a series."""

    number: int
    due: datetime
    """In UTC."""
    wall: datetime
    """The rule's own wall-clock time, naive; where clocks skip it, they show a later one at `due`."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """How a series goes on: every `interval` days, weeks, months or years."""

    frequency: Frequency
    interval: int = 1
    weekdays: tuple[int, ...] | None = None
    """Of a weekly one: 0 for Sunday to 6 for Saturday, ascending. None: the weekday of the anchor."""
    count: int | None = None
    """How many occurrences there are in all."""
    until: datetime | None = None
    """No occurrence is due after this instant."""


@dataclass(frozen=True, slots=True)
class Series:
    """A rule and its anchor, which is occurrence 0. Build it with `starting`, which sees to that."""

    anchor: datetime
    """On the wall clock of `zone`, naive."""
    zone: ZoneInfo
    rule: Recurrence
    month_day: int
    """Of a monthly or yearly rule, the day that is meant: a month too short for it has its last day instead.
    It is the anchor's day, unless the series was split off another one in such a month."""
    fold: int = 0
    """Which of the two is meant (PEP 495) where clocks show a time twice."""

    @classmethod
    def starting(cls, due: datetime, zone: ZoneInfo, rule: Recurrence) -> Series:
        """The series that begins at `due`, or on the next day of the rule where that is none."""
        wall = due.astimezone(zone)
        return cls(wall.replace(tzinfo=None, fold=0), zone, rule, wall.day, wall.fold).ruled_by(rule)

    def ruled_by(self, rule: Recurrence) -> Series:
        """From the same anchor, or the next day of the new rule, by that rule."""
        series = replace(self, rule=rule)
        if rule.frequency != "weekly":
            return series
        today = self.anchor.weekday()
        ahead = min((day - today) % 7 for day in series._days_of_week())
        return replace(series, anchor=self.anchor + timedelta(days=ahead)) if ahead else series

    @property
    def first_due(self) -> datetime:
        """When occurrence 0 is due."""
        return instant(self.anchor, self.zone, self.fold)

    def starting_at(self, start: datetime) -> Iterator[Occurrence]:
        """The occurrences due at `start` or later, in order; without end, where the rule has none."""
        return (one for one in self._walk(self._period_before(start), LATEST) if one.due >= start)

    def between(self, start: datetime, end: datetime) -> list[Occurrence]:
        """The occurrences due in `start <= due < end`, in order."""
        return [one for one in self._walk(self._period_before(start), end) if one.due >= start]

    def last_before(self, end: datetime, limit: int) -> list[Occurrence]:
        """The last `limit` occurrences due before `end`, in order."""
        if limit <= 0:
            return []
        last = (
            self._period_before(end if self.rule.until is None else min(end, self.rule.until)) + _SLACK.days
        )
        if self.rule.count is not None:
            last = min(last, self._period_of(self.rule.count - 1))
        # Every period but the first of a weekly rule has at least one; one more may be lost to a skipped day.
        return list(self._walk(max(0, last - limit - _SLACK.days - 2), end))[-limit:]

    def find(self, due: datetime) -> Occurrence | None:
        """The occurrence that is due at exactly that instant, or None."""
        return next(iter(self.between(due, due + _INSTANT)), None)

    def from_number(self, number: int) -> Iterator[Occurrence]:
        """The occurrences from that number on; without end, where the rule has none."""
        return (one for one in self._walk(self._period_of(number), LATEST) if one.number >= number)

    def _walk(self, period: int, end: datetime) -> Iterator[Occurrence]:
        """Occurrences from the start of a period on, up to `end` or what the rule sets."""
        rule, at = self.rule, self.anchor.time()
        end = min(end, LATEST if rule.until is None else rule.until + _INSTANT)
        last: datetime | None = None
        for number, day in enumerate(self._days_from(period), self._first_number(period)):
            wall = datetime.combine(day, at)
            due = instant(wall, self.zone, self.fold)
            if due >= end or (rule.count is not None and number >= rule.count):
                return
            # Where a zone left out a whole day (Samoa, 2011-12-30) two walls are one instant: one occurrence.
            if due != last:
                yield Occurrence(number, due, wall)
            last = due

    def _days_from(self, period: int) -> Iterator[date]:
        """The days of the rule from the start of a period on."""
        start, interval = datetime.combine(self._period_start(period), time()), self.rule.interval
        match self.rule.frequency:
            case "daily":
                found = rrule(DAILY, interval=interval, dtstart=start)
            case "weekly":
                found = rrule(
                    WEEKLY, interval=interval, dtstart=start, byweekday=self._days_of_week(), wkst=MO
                )
            case "monthly" | "yearly":
                # A year is twelve months: dateutil looks at the days of one instead of at those of a year.
                months = interval if self.rule.frequency == "monthly" else 12 * interval
                days, place = self._days_of_month()
                found = rrule(MONTHLY, interval=months, dtstart=start, bymonthday=days, bysetpos=place)
        return (day.date() for day in found)

    def _days_of_week(self) -> list[int]:
        """As dateutil counts them: 0 for Monday."""
        return sorted(_monday_first(day) for day in self.rule.weekdays or (self.anchor.isoweekday() % 7,))

    def _days_of_month(self) -> tuple[list[int], int | None]:
        """The day that is meant, as a choice: of those up to it that a month has, the last."""
        if self.month_day <= 28:
            return [self.month_day], None
        return list(range(28, self.month_day + 1)), -1

    def _period_before(self, moment: datetime) -> int:
        """A period that starts before every occurrence due at `moment` or later, not many before."""
        day, first = (moment - _SLACK).date(), self.anchor.date()
        match self.rule.frequency:
            case "daily":
                past = (day - first).days
            case "weekly":
                past = (_monday(day) - _monday(first)).days // 7
            case "monthly":
                past = (day.year - first.year) * 12 + day.month - first.month
            case "yearly":
                past = day.year - first.year
        return max(0, past // self.rule.interval)

    def _period_start(self, period: int) -> date:
        first, steps = self.anchor.date(), period * self.rule.interval
        match self.rule.frequency:
            case "daily":
                return first + timedelta(days=steps)
            case "weekly":
                return first if not period else _monday(first) + timedelta(weeks=steps)
            case "monthly":
                years, month = divmod(first.month - 1 + steps, 12)
                return date(first.year + years, month + 1, 1)
            case "yearly":
                return date(first.year + steps, first.month, 1)

    def _first_number(self, period: int) -> int:
        """The number of the first occurrence of a period."""
        if self.rule.frequency != "weekly" or not period:
            return period
        return self._in_first_week() + (period - 1) * len(self._days_of_week())

    def _period_of(self, number: int) -> int:
        """The period that has the occurrence of that number: the other way round."""
        if self.rule.frequency != "weekly":
            return number
        beyond = number - self._in_first_week()
        return 0 if beyond < 0 else 1 + beyond // len(self._days_of_week())

    def _in_first_week(self) -> int:
        today = self.anchor.weekday()
        return sum(1 for day in self._days_of_week() if day >= today)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _monday_first(sunday_first: int) -> int:
    return (sunday_first - 1) % 7
