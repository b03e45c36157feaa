"""Reminders to test with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice

from hypothesis import strategies as st

from server.sources.reminders.model import Override, Priority, Reminder
from server.sources.reminders.recurrence import Recurrence, Series
from server.sources.zones import zone
from tests.sources.reminders.series import dues, series, utc

__all__ = ["once", "overrides", "reminders", "repeating", "repeating_reminders"]


def once(
    due: str = "2026-03-02T12:00", *, priority: Priority = "normal", done: datetime | None = None
) -> Reminder:
    return Reminder("r", "Water the plants", None, utc(due), "UTC", priority, completed_at=done)


def repeating(
    rule: Recurrence,
    due: str = "2026-03-02T12:00",
    time_zone: str = "UTC",
    own: Mapping[int, Override] | None = None,
) -> Reminder:
    """A series; `own` says by number which occurrences differ."""
    one = Series.starting(utc(due), zone(time_zone), rule)
    by_number = {} if own is None else {next(one.from_number(n)).due: differs for n, differs in own.items()}
    return Reminder("r", "Water the plants", None, one.first_due, time_zone, series=one, overrides=by_number)


def overrides() -> st.SearchStrategy[Override]:
    return st.builds(
        Override,
        due_at=st.none() | dues(),
        title=st.none() | st.just("Another title"),
        notes=st.none() | st.sampled_from(("", "Other notes")),
        priority=st.none() | st.sampled_from(("low", "high")),
        completed_at=st.none() | dues(),
        deleted=st.sampled_from((False, False, False, True)),
    )


@st.composite
def repeating_reminders(draw: st.DrawFn) -> Reminder:
    one = draw(series())
    due = {each.due for each in islice(one.starting_at(one.first_due), 40)}
    own = draw(st.dictionaries(st.sampled_from(sorted(due)), overrides(), max_size=12)) if due else {}
    # What is moved is moved by days, not by decades.
    near = {
        when: Override(
            None if each.due_at is None else when + timedelta(minutes=each.due_at.minute * 100 - 3000),
            each.title,
            each.notes,
            each.priority,
            each.completed_at,
            each.deleted,
        )
        for when, each in own.items()
    }
    kept = {when: each for when, each in near.items() if each != Override() and each.due_at != when}
    return Reminder("r", "Water the plants", None, one.first_due, one.zone.key, series=one, overrides=kept)


@st.composite
def _single_reminders(draw: st.DrawFn) -> Reminder:
    priority: Priority = draw(st.sampled_from(("low", "normal", "high")))
    return Reminder("r", "Call", None, draw(dues()), "UTC", priority, completed_at=draw(st.none() | dues()))


def reminders() -> st.SearchStrategy[Reminder]:
    return repeating_reminders() | _single_reminders()
