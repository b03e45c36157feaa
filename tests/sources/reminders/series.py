"""Series to test with, and the same series worked out the slow way: day by day from the anchor."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from server.sources.reminders.recurrence import Occurrence, Recurrence, Series
from server.sources.zones import zone

__all__ = ["ZONES", "by_hand", "dues", "rules", "series", "utc"]

# Ordinary changes, both hemispheres, half an hour, at midnight, a whole day left out, an odd offset, none.
ZONES = (
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "UTC",
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def dues() -> st.SearchStrategy[datetime]:
    # Whole quarters of an hour fall into gaps and folds often enough.
    return st.integers(0, 50 * 366 * 96).map(lambda n: utc("1985-01-01") + timedelta(minutes=15 * n))


def rules() -> st.SearchStrategy[Recurrence]:
    weekly = st.builds(
        Recurrence,
        st.just("weekly"),
        st.integers(1, 5),
        st.none() | st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
        st.none() | st.integers(1, 60),
        st.none() | dues(),
    )
    other = st.builds(
        Recurrence,
        st.sampled_from(("daily", "monthly", "yearly")),
        st.integers(1, 5),
        st.none(),
        st.none() | st.integers(1, 60),
        st.none() | dues(),
    )
    return weekly | other


def series() -> st.SearchStrategy[Series]:
    return st.builds(Series.starting, dues(), st.sampled_from(ZONES).map(zone), rules())


def by_hand(one: Series, end: datetime) -> list[Occurrence]:
    """Every occurrence due before `end`: what the clever way must come to."""
    found: list[Occurrence] = []
    for number, day in zip(count(), _days(one, end.date() + timedelta(days=3)), strict=False):
        wall = datetime.combine(day, one.anchor.time())
        due = _first_instant_showing(wall, one.zone, one.fold)
        if one.rule.count is not None and number >= one.rule.count:
            break
        if due >= end or (one.rule.until is not None and due > one.rule.until):
            break
        if not found or found[-1].due != due:
            found.append(Occurrence(number, due, wall))
    return found


def _days(one: Series, last: date) -> Iterator[date]:
    day = one.anchor.date()
    while day <= last:
        if _is_day_of(one, day):
            yield day
        day += timedelta(days=1)


def _is_day_of(one: Series, day: date) -> bool:
    first, rule = one.anchor.date(), one.rule
    months = (day.year - first.year) * 12 + day.month - first.month
    if rule.frequency == "daily":
        return (day - first).days % rule.interval == 0
    if rule.frequency == "weekly":
        begin = first - timedelta(days=first.weekday())
        weekdays = rule.weekdays or (first.isoweekday() % 7,)
        return (day - begin).days // 7 % rule.interval == 0 and day.isoweekday() % 7 in weekdays
    if day.day != min(one.month_day, monthrange(day.year, day.month)[1]):
        return False
    if rule.frequency == "monthly":
        return months % rule.interval == 0
    return day.month == first.month and (day.year - first.year) % rule.interval == 0


def _first_instant_showing(wall: datetime, where: ZoneInfo, fold: int) -> datetime:
    """By asking the clocks: those instants that show `wall`; in a gap, the same time by the offset before."""
    offsets = {(wall + timedelta(days=n)).replace(tzinfo=where).utcoffset() for n in (-2, -1, 0, 1, 2)}
    tries = sorted((wall - offset).replace(tzinfo=UTC) for offset in offsets if offset is not None)
    shown = [one for one in tries if one.astimezone(where).replace(tzinfo=None, fold=0) == wall]
    if shown:
        return shown[min(fold, len(shown) - 1)]
    before = (wall - timedelta(days=1)).replace(tzinfo=where).utcoffset()
    assert before is not None
    return (wall - before).replace(tzinfo=UTC)
