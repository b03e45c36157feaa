from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.sources.reminders.edits import (
    MAX_OVERRIDES,
    Deleted,
    Scope,
    Split,
    complete,
    created,
    deleted,
    updated,
)
from server.sources.reminders.model import Override, Reminder, from_stored, occurrence_wire, to_stored
from server.sources.reminders.recurrence import Occurrence, Recurrence
from server.sources.reminders.retiming import Patch, ReminderRefused
from tests.sources.reminders.reminders import once, reminders, repeating, repeating_reminders
from tests.sources.reminders.series import utc

NOW = utc("2026-03-02T12:00")
DAILY = Recurrence("daily")
FUTURE: Scope = "this-and-future"
ONE: Scope = "this-occurrence"
ALL: Scope = "entire-series"


def occurrences(reminder: Reminder, most: int = 80) -> list[Occurrence]:
    assert reminder.series is not None
    return list(islice(reminder.series.starting_at(reminder.due_at), most))


def due_of(reminder: Reminder, number: int) -> datetime:
    assert reminder.series is not None
    return next(reminder.series.from_number(number)).due


def dues(reminder: Reminder, most: int = 5) -> list[str]:
    return [f"{one.due:%Y-%m-%d %H:%M}" for one in occurrences(reminder, most)]


def changed(reminder: Reminder, scope: Scope, number: int | None, patch: Patch) -> Reminder:
    due = None if number is None else due_of(reminder, number)
    after = updated(reminder, scope, due, patch, "new")
    assert isinstance(after, Reminder)
    return after


def split(reminder: Reminder, number: int, patch: Patch) -> tuple[Reminder, Reminder]:
    after = updated(reminder, FUTURE, due_of(reminder, number), patch, "new")
    assert isinstance(after, Split)
    return after.original, after.future


def series_only() -> st.SearchStrategy[Reminder]:
    return repeating_reminders().filter(lambda one: bool(occurrences(one, 1)))


def chosen(reminder: Reminder, among: int) -> Occurrence:
    """One that is still there."""
    there = [one for one in occurrences(reminder) if not reminder.override(one.due).deleted]
    assume(there)
    return there[among % len(there)]


@given(reminders())
def test_a_row_gives_back_the_reminder_that_was_stored(reminder: Reminder) -> None:
    body, overrides = orjson.loads(orjson.dumps(to_stored(reminder)))
    assert from_stored(reminder.id, body, overrides) == reminder


@settings(max_examples=50)
@given(series_only(), st.integers(0, 1000))
def test_a_split_loses_no_occurrence_and_doubles_none(reminder: Reminder, among: int) -> None:
    one = chosen(reminder, among)
    after = updated(reminder, FUTURE, one.due, Patch(title="New"), "new")
    if one.number == 0:
        assert isinstance(after, Reminder)
        assert occurrences(after) == occurrences(reminder)
        return
    assert isinstance(after, Split)
    first, second = occurrences(after.original), occurrences(after.future, 80)
    both = [each.due for each in (*first, *second)]
    expected = [each.due for each in occurrences(reminder, len(both))]
    assert both[: len(expected)] == expected
    assert (len(expected) == len(both)) or len(both) > 80
    assert all(each.due < one.due for each in first)
    assert {**after.original.overrides, **after.future.overrides}.keys() <= reminder.overrides.keys()


@settings(max_examples=50)
@given(series_only(), st.integers(0, 1000))
def test_ending_a_series_keeps_what_was_before_as_it_was(reminder: Reminder, among: int) -> None:
    one = chosen(reminder, among)
    after = deleted(reminder, FUTURE, one.due)
    if one.number == 0:
        assert after == Deleted(reminder.id)
        return
    assert isinstance(after, Reminder)
    kept = [each.due for each in occurrences(reminder) if each.due < one.due]
    assert [each.due for each in occurrences(after)] == kept
    assert [occurrence_wire(after, due)["completedAt"] for due in kept] == [
        occurrence_wire(reminder, due)["completedAt"] for due in kept
    ]


@settings(max_examples=50)
@given(series_only(), st.integers(0, 1000))
def test_what_is_done_and_then_not_done_is_as_it_was(reminder: Reminder, among: int) -> None:
    one = chosen(reminder, among)
    before = complete(reminder, one.due, None)
    assert complete(complete(before, one.due, NOW), one.due, None) == before
    done = complete(reminder, one.due, NOW)
    assert occurrence_wire(done, one.due)["completedAt"] == "2026-03-02T12:00:00Z"
    others = [each.due for each in occurrences(reminder) if each.due != one.due]
    assert [occurrence_wire(done, due) for due in others] == [
        occurrence_wire(reminder, due) for due in others
    ]


@settings(max_examples=50)
@given(series_only(), st.integers(1, 300))
def test_a_series_that_is_moved_as_a_whole_keeps_what_was_done_to_each(
    reminder: Reminder, minutes: int
) -> None:
    series = reminder.series
    assert series is not None
    # Without an end, which might come to lie before the last; and within a day, since moving a weekday is
    # another matter.
    reminder = replace(reminder, series=replace(series, rule=replace(series.rule, until=None)))
    due = reminder.due_at + timedelta(minutes=minutes)
    assume(due.astimezone(series.zone).date() == series.anchor.date())
    after = changed(reminder, ALL, None, Patch(due_at=due))
    assert len(occurrences(after)) == len(occurrences(reminder))
    kept = {one.number: after.override(one.due) for one in occurrences(after)}
    assert kept == {one.number: reminder.override(one.due) for one in occurrences(reminder)}


def test_one_occurrence_is_changed_alone() -> None:
    reminder = repeating(DAILY)
    patch = Patch(title="Call", notes="now", due_at=utc("2026-03-04T18:00"), priority="high")
    after = changed(reminder, ONE, 1, patch)
    assert occurrence_wire(after, due_of(reminder, 1)) == {
        "reminderId": "r",
        "occurrenceId": "r/2026-03-03T12:00:00Z",
        "title": "Call",
        "notes": "now",
        "originalDueAt": "2026-03-03T12:00:00Z",
        "dueAt": "2026-03-04T18:00:00Z",
        "timeZone": "UTC",
        "recurrence": {"frequency": "daily", "interval": 1},
        "priority": "high",
        "completedAt": None,
    }
    assert occurrence_wire(after, due_of(reminder, 2))["title"] == "Water the plants"


def test_moving_an_occurrence_back_makes_it_ordinary_again() -> None:
    reminder = repeating(DAILY, own={1: Override(due_at=NOW)})
    assert changed(reminder, ONE, 1, Patch(due_at=due_of(reminder, 1))).overrides == {}


def test_the_notes_of_one_occurrence_can_be_taken_away() -> None:
    reminder = created("r", "Call", NOW, "UTC", notes="of all", recurrence=DAILY)
    after = changed(reminder, ONE, 1, Patch(notes=None))
    assert occurrence_wire(after, due_of(reminder, 1))["notes"] is None
    assert occurrence_wire(after, due_of(reminder, 2))["notes"] == "of all"


def test_recurrence_and_zone_of_one_occurrence_cannot_change() -> None:
    reminder = repeating(DAILY)
    for patch in (Patch(recurrence=None), Patch(recurrence=DAILY), Patch(time_zone="Europe/London")):
        with pytest.raises(ReminderRefused, match="belong to the series"):
            updated(reminder, ONE, reminder.due_at, patch, "new")


@pytest.mark.parametrize("scope", [ONE, FUTURE])
def test_an_occurrence_that_is_none_is_refused(scope: Scope) -> None:
    reminder = repeating(DAILY, own={1: Override(deleted=True)})
    for due in (NOW + timedelta(hours=1), NOW - timedelta(days=1), due_of(reminder, 1)):
        with pytest.raises(ReminderRefused, match="no occurrence"):
            updated(reminder, scope, due, Patch(title="x"), "new")
        with pytest.raises(ReminderRefused, match="no occurrence"):
            deleted(reminder, scope, due)
        with pytest.raises(ReminderRefused, match="no occurrence"):
            complete(reminder, due, NOW)


def test_which_occurrence_is_meant_must_be_said() -> None:
    with pytest.raises(ReminderRefused, match="occurrenceDueAt"):
        complete(repeating(DAILY), None, NOW)


@pytest.mark.parametrize("scope", [ONE, FUTURE, ALL])
def test_a_reminder_that_is_due_once_has_one_scope(scope: Scope) -> None:
    reminder = once()
    after = updated(reminder, scope, reminder.due_at, Patch(title="Call", due_at=NOW), "new")
    assert after == replace(once(), title="Call", due_at=NOW)
    assert deleted(reminder, scope, reminder.due_at) == Deleted("r")
    with pytest.raises(ReminderRefused, match="not due then"):
        deleted(reminder, scope, NOW + timedelta(hours=1))


def test_from_the_first_occurrence_on_is_the_whole_series() -> None:
    after = changed(repeating(DAILY, own={3: Override(completed_at=NOW)}), FUTURE, 0, Patch(title="Call"))
    assert (after.id, after.title, len(after.overrides)) == ("r", "Call", 1)


def test_a_split_divides_the_count() -> None:
    original, future = split(repeating(Recurrence("daily", count=10)), 4, Patch(title="Call"))
    assert original.series is not None
    assert future.series is not None
    assert (original.series.rule.count, future.series.rule.count) == (4, 6)
    assert (original.title, future.title) == ("Water the plants", "Call")
    assert (original.id, future.id) == ("r", "new")


def test_a_split_takes_what_was_done_along_with_its_occurrences() -> None:
    reminder = repeating(DAILY, own={1: Override(completed_at=NOW), 5: Override(completed_at=NOW)})
    original, future = split(reminder, 4, Patch(title="Call"))
    assert list(original.overrides) == [due_of(reminder, 1)]
    assert list(future.overrides) == [due_of(reminder, 5)]


def test_a_split_overrules_what_was_set_for_its_first_occurrence() -> None:
    reminder = repeating(DAILY, own={4: Override(title="Only then", completed_at=NOW)})
    _, future = split(reminder, 4, Patch(title="Call"))
    first = occurrence_wire(future, due_of(reminder, 4))
    assert (first["title"], first["completedAt"]) == ("Call", "2026-03-02T12:00:00Z")


def test_a_split_in_a_short_month_is_still_meant_for_the_31st() -> None:
    reminder = repeating(Recurrence("monthly"), "2026-01-31T12:00")
    _, future = split(reminder, 1, Patch(title="Call"))
    assert dues(future, 2) == ["2026-02-28 12:00", "2026-03-31 12:00"]


def test_a_split_where_the_clocks_skip_an_hour_keeps_the_time_of_day() -> None:
    reminder = repeating(DAILY, "2026-03-28T01:30", "Europe/London")
    _, future = split(reminder, 1, Patch(title="Call"))
    assert dues(future, 2) == ["2026-03-29 01:30", "2026-03-30 00:30"]


def test_a_weekly_split_that_moves_its_day_moves_that_weekday_alone() -> None:
    monday_and_thursday = repeating(Recurrence("weekly", 1, (1, 4)), "2026-03-02T12:00")
    _, future = split(monday_and_thursday, 2, Patch(due_at=utc("2026-03-10T08:00")))
    assert future.series is not None
    assert future.series.rule.weekdays == (2, 4)
    assert dues(future, 3) == ["2026-03-10 08:00", "2026-03-12 08:00", "2026-03-17 08:00"]


def test_a_new_rule_keeps_what_was_done_where_both_rules_meet() -> None:
    reminder = repeating(DAILY, own={1: Override(completed_at=NOW), 2: Override(completed_at=NOW)})
    after = changed(reminder, ALL, None, Patch(recurrence=Recurrence("daily", 2)))
    assert list(after.overrides) == [due_of(reminder, 2)]


def test_a_series_becomes_single_and_a_single_one_a_series() -> None:
    done = repeating(DAILY, own={0: Override(completed_at=NOW), 1: Override(completed_at=NOW)})
    single = changed(done, ALL, None, Patch(recurrence=None))
    assert (single.series, single.completed_at, single.due_at) == (None, NOW, done.due_at)
    assert not single.overrides
    again = changed(single, ALL, None, Patch(recurrence=DAILY))
    assert (again.completed_at, dict(again.overrides)) == (None, {NOW: Override(completed_at=NOW)})


def test_a_due_without_a_zone_is_wall_clock_time_in_the_reminders_zone() -> None:
    naive = datetime(2026, 7, 1, 9)  # noqa: DTZ001 -- that is the point
    assert created("r", "Call", naive, "Europe/London").due_at == utc("2026-07-01T08:00")
    moved = changed(repeating(DAILY, time_zone="Europe/London"), ALL, None, Patch(due_at=naive))
    assert moved.due_at == utc("2026-07-01T08:00")


def test_another_zone_keeps_the_instant_and_from_then_on_its_own_clock() -> None:
    after = changed(repeating(DAILY, "2026-03-27T12:00"), ALL, None, Patch(time_zone="Europe/London"))
    assert dues(after, 3) == ["2026-03-27 12:00", "2026-03-28 12:00", "2026-03-29 11:00"]


def test_a_weekly_one_that_is_due_on_none_of_its_days_is_created_on_the_next() -> None:
    reminder = created("r", "Call", NOW, "UTC", recurrence=Recurrence("weekly", 1, (3,)))
    assert reminder.due_at == utc("2026-03-04T12:00")


def test_a_series_without_any_occurrence_is_refused() -> None:
    with pytest.raises(ReminderRefused, match="ends before"):
        created("r", "Call", NOW, "UTC", recurrence=Recurrence("daily", until=NOW - timedelta(hours=1)))
    with pytest.raises(ReminderRefused, match="ends before"):
        changed(repeating(Recurrence("daily", until=NOW)), ALL, None, Patch(due_at=NOW + timedelta(days=1)))


@pytest.mark.parametrize("year", [1, 1900, 2300, 9999])
def test_a_year_beyond_all_plans_is_refused(year: int) -> None:
    with pytest.raises(ReminderRefused, match="between the years"):
        created("r", "Call", NOW.replace(year=year), "UTC")


def test_of_very_many_changes_the_oldest_are_forgotten() -> None:
    reminder = repeating(DAILY, "2020-01-01T12:00")
    for one in occurrences(reminder, MAX_OVERRIDES + 3):
        reminder = complete(reminder, one.due, NOW)
    assert len(reminder.overrides) == MAX_OVERRIDES
    assert min(reminder.overrides) == due_of(reminder, 3)
