from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sources.reminders.recurrence import LATEST, Frequency, Recurrence, Series
from server.sources.zones import zone
from tests.sources.reminders.series import by_hand, dues, series, utc


def local(one: Series, start: str, end: str) -> list[str]:
    found = one.between(utc(start), utc(end))
    return [f"{each.due.astimezone(one.zone):%Y-%m-%d %H:%M}" for each in found]


@given(series(), st.integers(-400, 3000), st.integers(0, 400))
def test_a_window_shows_what_counting_the_days_shows(one: Series, after: int, length: int) -> None:
    start = one.first_due + timedelta(days=after)
    end = start + timedelta(days=length)
    assert one.between(start, end) == [each for each in by_hand(one, end) if each.due >= start]


@given(series(), st.integers(-400, 3000), st.integers(0, 30))
def test_looking_back_finds_the_last_ones(one: Series, after: int, limit: int) -> None:
    end = one.first_due + timedelta(days=after)
    assert one.last_before(end, limit) == (by_hand(one, end)[-limit:] if limit else [])


@given(series(), st.integers(0, 200))
def test_an_occurrence_is_found_by_its_number_and_by_its_due(one: Series, skip: int) -> None:
    for each in islice(one.from_number(skip), 3):
        assert one.find(each.due) == each
    for each in islice(one.starting_at(one.first_due), skip, skip + 3):
        assert next(one.from_number(each.number)) == each


@given(series(), dues())
def test_what_is_not_due_then_is_not_found(one: Series, due: datetime) -> None:
    found = one.find(due)
    assert (found is not None) == any(each.due == due for each in by_hand(one, due + timedelta(days=1)))


@given(series())
def test_the_anchor_is_the_first_occurrence(one: Series) -> None:
    first = next(one.starting_at(utc("1980-01-01")), None)
    assert first is None or (first.number, first.due, first.wall) == (0, one.first_due, one.anchor)
    assert first is not None or (one.rule.until is not None and one.rule.until < one.first_due)


@given(series())
def test_dues_rise(one: Series) -> None:
    found = [each.due for each in islice(one.starting_at(one.first_due), 50)]
    assert found == sorted(set(found))


def test_a_weekly_one_begins_on_its_first_weekday() -> None:
    tuesday = utc("2026-03-03T09:00")
    one = Series.starting(tuesday, zone("UTC"), Recurrence("weekly", 2, (1, 5)))
    assert local(one, "2026-03-01", "2026-04-01") == [
        "2026-03-06 09:00",
        "2026-03-16 09:00",
        "2026-03-20 09:00",
        "2026-03-30 09:00",
    ]


def test_a_month_too_short_has_its_last_day() -> None:
    one = Series.starting(utc("2026-01-31T09:00"), zone("UTC"), Recurrence("monthly"))
    assert local(one, "2026-01-01", "2026-06-01") == [
        "2026-01-31 09:00",
        "2026-02-28 09:00",
        "2026-03-31 09:00",
        "2026-04-30 09:00",
        "2026-05-31 09:00",
    ]


def test_a_leap_day_is_the_28th_in_other_years() -> None:
    one = Series.starting(utc("2024-02-29T09:00"), zone("UTC"), Recurrence("yearly"))
    assert local(one, "2024-01-01", "2029-01-01") == [
        "2024-02-29 09:00",
        "2025-02-28 09:00",
        "2026-02-28 09:00",
        "2027-02-28 09:00",
        "2028-02-29 09:00",
    ]


def test_the_clock_on_the_wall_stays_when_the_clocks_change() -> None:
    one = Series.starting(utc("2026-03-27T09:00"), zone("Europe/London"), Recurrence("daily"))
    found = one.between(utc("2026-03-28"), utc("2026-03-31"))
    assert [each.due for each in found] == [
        utc("2026-03-28T09:00"),
        utc("2026-03-29T08:00"),
        utc("2026-03-30T08:00"),
    ]


def test_a_time_that_the_clocks_skip_comes_an_hour_later_on_that_day_alone() -> None:
    one = Series.starting(utc("2026-03-28T01:30"), zone("Europe/London"), Recurrence("daily"))
    assert local(one, "2026-03-28", "2026-03-31") == [
        "2026-03-28 01:30",
        "2026-03-29 02:30",
        "2026-03-30 01:30",
    ]


def test_a_time_that_the_clocks_show_twice_comes_once() -> None:
    one = Series.starting(utc("2026-10-24T00:30"), zone("Europe/London"), Recurrence("daily"))
    assert [each.due for each in one.between(utc("2026-10-25"), utc("2026-10-26"))] == [
        utc("2026-10-25T00:30")
    ]


def test_one_begun_in_the_second_of_two_equal_hours_stays_in_it() -> None:
    second = utc("2026-10-25T01:30")
    one = Series.starting(second, zone("Europe/London"), Recurrence("daily"))
    assert one.first_due == second
    assert one.between(utc("2026-10-26"), utc("2026-10-27"))[0].due == utc("2026-10-26T01:30")


def test_a_day_that_a_zone_left_out_gives_no_second_occurrence() -> None:
    one = Series.starting(utc("2011-12-28T20:00"), zone("Pacific/Apia"), Recurrence("daily"))
    assert local(one, "2011-12-28", "2012-01-01T20:00") == [
        "2011-12-28 10:00",
        "2011-12-29 10:00",
        "2011-12-31 10:00",
        "2012-01-01 10:00",
    ]


def calls_of(work: Callable[[], object]) -> int:
    """How many calls of functions it takes: a measure of work that is the same on every machine."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("frequency", ["daily", "weekly", "monthly", "yearly"])
def test_a_series_since_1990_costs_what_one_since_last_year_does(frequency: Frequency) -> None:
    def work(since: str) -> int:
        one = Series.starting(utc(since), zone("Europe/London"), Recurrence(frequency))

        def look() -> None:
            one.between(utc("2026-03-01"), utc("2026-03-03"))
            one.last_before(utc("2026-03-01"), 3)

        look()
        return calls_of(look)

    assert work("1990-01-01T09:00") <= 2 * work("2025-01-01T09:00") < 2000


@pytest.mark.parametrize("frequency", ["daily", "weekly", "monthly", "yearly"])
def test_the_longest_steps_end_before_the_calendar_does(frequency: Frequency) -> None:
    rule = Recurrence(frequency, 1000, count=100_000)
    one = Series.starting(utc("2290-12-31T09:00"), zone("America/New_York"), rule)
    assert all(each.due < LATEST for each in one.starting_at(one.first_due))
    assert one.last_before(LATEST, 50)
