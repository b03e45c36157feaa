from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.feed import Signals
from server.sources.reminders.model import Override, Priority, Reminder
from server.sources.reminders.recurrence import Recurrence
from server.sources.reminders.window import MISSED_HORIZON, Shown, Visible, Window, signals_at, visible
from tests.sources.reminders.reminders import once, reminders, repeating
from tests.sources.reminders.series import by_hand, utc

NOW = utc("2026-03-02T12:00")
DAILY = Recurrence("daily")


def shown_dues(reminder: Reminder, now: datetime = NOW, window: Window | None = None) -> list[str]:
    return [f"{one.due:%m-%d %H:%M}" for one in visible(reminder, now, window or Window()).occurrences]


def by_looking_at_all(reminder: Reminder, now: datetime, window: Window) -> tuple[Shown, ...]:
    """What is shown, from every occurrence there ever was."""
    start, end = now - window.look_back, now + window.look_ahead
    if reminder.series is None:
        every = [(reminder.due_at, Override(completed_at=reminder.completed_at))]
    else:
        far = end + timedelta(microseconds=1)
        of_rule = [each.due for each in by_hand(reminder.series, far)]
        before = [due for due in of_rule if due <= start][-MISSED_HORIZON:]
        every = [(due, reminder.override(due)) for due in (*before, *(due for due in of_rule if due > start))]
        every = [(due, own) for due, own in every if own.due_at is None]
        every += [(due, own) for due, own in reminder.overrides.items() if own.due_at is not None]
    shown = [
        Shown(due, own.due_at or due, own.priority or reminder.priority, own.completed_at is not None)
        for due, own in every
        if not own.deleted
    ]
    shown.sort(key=lambda one: (one.due, one.original_due))
    missed = [one for one in shown if one.due <= start and not one.done]
    inside = [one for one in shown if start < one.due <= end and (window.include_completed or not one.done)]
    return (*missed[-window.missed :], *inside)


def windows() -> st.SearchStrategy[Window]:
    hours = st.integers(0, 100).map(lambda hours: timedelta(hours=hours))
    return st.builds(Window, hours, hours, st.booleans(), st.integers(1, 8))


@settings(max_examples=60)
@given(reminders(), windows(), st.integers(-200, 2000))
def test_what_is_shown_is_what_looking_at_every_occurrence_shows(
    reminder: Reminder, window: Window, after_h: int
) -> None:
    now = reminder.due_at + timedelta(hours=after_h)
    assert visible(reminder, now, window).occurrences == by_looking_at_all(reminder, now, window)


@settings(max_examples=60)
@given(reminders(), windows(), st.integers(-200, 2000), st.floats(0, 0.999))
def test_nothing_else_is_shown_before_the_time_it_names(
    reminder: Reminder, window: Window, after_h: int, share: float
) -> None:
    now = reminder.due_at + timedelta(hours=after_h)
    first = visible(reminder, now, window)
    until = first.changes_at or now + timedelta(days=500)
    assert until > now
    later = now + (until - now) * share
    assert visible(reminder, later, window).occurrences == first.occurrences


@settings(max_examples=60)
@given(reminders(), st.integers(-5000, 500), st.floats(0, 0.999))
def test_an_occurrence_is_as_urgent_until_the_time_it_names(
    reminder: Reminder, after_min: int, share: float
) -> None:
    one = Shown(reminder.due_at, reminder.due_at, reminder.priority, reminder.completed_at is not None)
    now = reminder.due_at + timedelta(minutes=after_min)
    signals, changes_at = signals_at(one, now)
    until = changes_at or now + timedelta(days=500)
    assert until > now
    assert signals_at(one, now + (until - now) * share)[0] == signals


def test_it_appears_a_day_before_it_is_due() -> None:
    reminder = once("2026-03-04T12:00")
    assert visible(reminder, NOW, Window()) == Visible((), utc("2026-03-03T12:00"))
    assert shown_dues(reminder, utc("2026-03-03T12:00")) == ["03-04 12:00"]


def test_overdue_and_not_done_stays_until_done() -> None:
    reminder = once("2025-01-01T12:00")
    assert visible(reminder, NOW, Window()) == Visible(
        (Shown(reminder.due_at, reminder.due_at, "normal", False),), None
    )
    assert shown_dues(once("2025-01-01T12:00", done=NOW)) == []


def test_what_is_done_goes_at_once_or_stays_as_long_as_the_user_wants() -> None:
    reminder = once("2026-03-02T11:00", done=NOW)
    assert shown_dues(reminder) == []
    keeping = Window(include_completed=True)
    assert visible(reminder, NOW, keeping).changes_at == utc("2026-03-03T11:00")
    assert shown_dues(reminder, window=keeping) == ["03-02 11:00"]
    assert shown_dues(reminder, utc("2026-03-03T11:00"), keeping) == []


def test_of_a_series_the_last_missed_ones_stay_beside_those_of_the_window() -> None:
    reminder = repeating(DAILY, "2026-02-01T12:00")
    assert shown_dues(reminder) == [
        "02-27 12:00",
        "02-28 12:00",
        "03-01 12:00",
        "03-02 12:00",
        "03-03 12:00",
    ]


def test_missed_ones_are_looked_for_behind_those_that_were_done() -> None:
    done = {number: Override(completed_at=NOW) for number in range(5, 29)}
    reminder = repeating(DAILY, "2026-02-01T12:00", own=done)
    assert shown_dues(reminder, window=Window(missed=2)) == [
        "02-04 12:00",
        "02-05 12:00",
        "03-02 12:00",
        "03-03 12:00",
    ]


def test_a_series_that_ended_long_ago_still_shows_what_was_missed() -> None:
    reminder = repeating(Recurrence("weekly", count=2), "2019-05-01T12:00")
    assert shown_dues(reminder) == ["05-01 12:00", "05-08 12:00"]


def test_an_occurrence_that_was_moved_is_shown_when_it_is_due_now() -> None:
    moved = Override(due_at=utc("2026-03-02T18:00"))
    reminder = repeating(Recurrence("monthly"), "2026-03-20T12:00", own={0: moved})
    assert shown_dues(reminder) == ["03-02 18:00"]
    assert shown_dues(reminder, utc("2026-03-20T12:00")) == ["03-02 18:00"]


@pytest.mark.parametrize(
    ("before_due", "urgency", "relevance"),
    [
        (timedelta(hours=24, seconds=1), 0.2, "ambient"),
        (timedelta(hours=24), 0.5, "upcoming"),
        (timedelta(hours=1, seconds=1), 0.5, "upcoming"),
        (timedelta(hours=1), 0.8, "imminent"),
        (timedelta(minutes=15, seconds=1), 0.8, "imminent"),
        (timedelta(minutes=15), 0.95, "imminent"),
        (timedelta(seconds=1), 0.95, "imminent"),
        (timedelta(0), 1.0, "imminent"),
        (timedelta(days=-400), 1.0, "imminent"),
    ],
)
def test_it_is_the_more_urgent_the_nearer(before_due: timedelta, urgency: float, relevance: str) -> None:
    signals, _ = signals_at(Shown(NOW, NOW, "normal", False), NOW - before_due)
    assert (signals.urgency, signals.time_relevance) == (urgency, relevance)


@pytest.mark.parametrize(
    ("priority", "before_due", "urgency"),
    [
        ("high", timedelta(days=3), 0.3),
        ("low", timedelta(days=3), 0.1),
        ("high", timedelta(minutes=10), 1.0),
        ("low", timedelta(minutes=10), 0.85),
        ("high", timedelta(hours=-1), 1.0),
    ],
)
def test_priority_moves_the_urgency_within_its_bounds(
    priority: Priority, before_due: timedelta, urgency: float
) -> None:
    assert signals_at(Shown(NOW, NOW, priority, False), NOW - before_due)[0].urgency == urgency


def test_what_is_done_is_not_urgent_at_all() -> None:
    assert signals_at(Shown(NOW, NOW, "high", True), NOW) == (Signals(0.0, "ambient"), None)
