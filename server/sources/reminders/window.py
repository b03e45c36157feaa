"""Which occurrences are shown at a given time, how urgent each is, and when either will change. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from protocol.feed import Signals, TimeRelevance
from server.sources.reminders.model import Override, Priority, Reminder
from server.sources.reminders.recurrence import Series

__all__ = ["MISSED_HORIZON", "Shown", "Visible", "Window", "signals_at", "visible"]

# How many occurrences before the window are looked at for those that were missed: a series that is always
# done on time is not searched back to its beginning.
MISSED_HORIZON: Final = 60
_INSTANT: Final = timedelta(microseconds=1)

# Until when before its due an occurrence is this urgent: the last that holds counts.
_STEPS: Final[tuple[tuple[timedelta, float, TimeRelevance], ...]] = (
    (timedelta(hours=24), 0.5, "upcoming"),
    (timedelta(hours=1), 0.8, "imminent"),
    (timedelta(minutes=15), 0.95, "imminent"),
    (timedelta(0), 1.0, "imminent"),
)
_FAR: Final[tuple[float, TimeRelevance]] = (0.2, "ambient")
_DONE: Final = Signals(0.0, "ambient")
_BY_PRIORITY: Final[dict[Priority, float]] = {"low": -0.1, "normal": 0.0, "high": 0.1}


@dataclass(frozen=True, slots=True)
class Window:
    """What a user wants to see of their reminders."""

    look_back: timedelta = timedelta(days=1)
    look_ahead: timedelta = timedelta(days=1)
    include_completed: bool = False
    missed: int = 3
    """Of one series, how many occurrences that were missed before the window stay until they are done."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An occurrence that is in the feed."""

    original_due: datetime
    due: datetime
    priority: Priority
    done: bool


@dataclass(frozen=True, slots=True)
class Visible:
    """What is shown of one reminder, in order of due; and when that may be something else."""

    occurrences: tuple[Shown, ...]
    changes_at: datetime | None


def visible(reminder: Reminder, now: datetime, window: Window) -> Visible:
    """What of a reminder is in the feed at `now`: what is due in `now - look_back < due <= now +
    look_ahead`, and what is overdue and not done."""
    if reminder.series is None:
        return _once(reminder, now, window)
    return _series(reminder, reminder.series, now, window)


def signals_at(one: Shown, now: datetime) -> tuple[Signals, datetime | None]:
    """How urgent an occurrence is at `now`, and when it will be more so."""
    if one.done:
        return _DONE, None
    (urgency, relevance), changes_at = _FAR, one.due - _STEPS[0][0]
    for index, (before, step_urgency, step_relevance) in enumerate(_STEPS):
        if now < one.due - before:
            break
        urgency, relevance = step_urgency, step_relevance
        changes_at = one.due - _STEPS[index + 1][0] if index + 1 < len(_STEPS) else None
    urgency = min(1.0, max(0.0, urgency + _BY_PRIORITY[one.priority]))
    # Two digits: 0.2 + 0.1 is 0.30000000000000004, which nobody wants to read on a wire.
    return Signals(round(urgency, 2), relevance), changes_at


def _once(reminder: Reminder, now: datetime, window: Window) -> Visible:
    due, done = reminder.due_at, reminder.completed_at is not None
    one = (Shown(due, due, reminder.priority, done),)
    if now < due - window.look_ahead:
        hidden_for_good = done and not window.include_completed
        return Visible((), None if hidden_for_good else due - window.look_ahead)
    if not done:
        return Visible(one, None)
    if window.include_completed and now < due + window.look_back:
        return Visible(one, due + window.look_back)
    return Visible((), None)


def _series(reminder: Reminder, series: Series, now: datetime, window: Window) -> Visible:
    start, end = now - window.look_back, now + window.look_ahead
    changes: list[datetime] = []
    inside: list[Shown] = []
    for one in _in_order(reminder, series, start):
        if one.due > end:
            changes.append(one.due - window.look_ahead)
            break
        if window.include_completed or not one.done:
            changes.append(one.due + window.look_back)
            inside.append(one)
    moved = [one for one in _moved(reminder) if not one.done or window.include_completed]
    for one in moved:
        if one.due > end:
            changes.append(one.due - window.look_ahead)
        elif one.due > start:
            changes.append(one.due + window.look_back)
            inside.append(one)
    missed = [one for one in moved if one.due <= start and not one.done]
    missed += _missed(reminder, series, start, window.missed)
    missed.sort(key=_by_due)
    shown = sorted(chain(missed[-window.missed :] if window.missed else (), inside), key=_by_due)
    return Visible(tuple(shown), min(changes, default=None))


def _in_order(reminder: Reminder, series: Series, start: datetime) -> Iterator[Shown]:
    """What is due after `start` where the rule has it, without end."""
    for occurrence in series.starting_at(start + _INSTANT):
        own = reminder.override(occurrence.due)
        if not own.deleted and own.due_at is None:
            yield _shown(reminder, occurrence.due, own)


def _moved(reminder: Reminder) -> Iterator[Shown]:
    """What was given a due of its own."""
    for original_due, own in reminder.overrides.items():
        if own.due_at is not None and not own.deleted:
            yield _shown(reminder, original_due, own)


def _missed(reminder: Reminder, series: Series, start: datetime, wanted: int) -> list[Shown]:
    """The last `wanted` occurrences due at `start` or before that are not done, of those last looked at."""
    differing = sum(1 for due in reminder.overrides if due <= start)
    found = [
        _shown(reminder, one.due, own)
        for one in series.last_before(start + _INSTANT, min(wanted + differing, MISSED_HORIZON))
        if not (own := reminder.override(one.due)).deleted and own.due_at is None and own.completed_at is None
    ]
    return found[-wanted:]


def _shown(reminder: Reminder, original_due: datetime, own: Override) -> Shown:
    return Shown(
        original_due,
        own.due_at or original_due,
        own.priority or reminder.priority,
        own.completed_at is not None,
    )


def _by_due(one: Shown) -> tuple[datetime, datetime]:
    return one.due, one.original_due
