"""The parts of a day, by the clock on the wall. Pure."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from server.sources.zones import instant

__all__ = ["PartOfDay", "PartSpan", "next_midnight", "span_at"]


class PartOfDay(Enum):
    """What people call the hours. The night belongs to the day before it until it ends."""

    # Members are one of each, and looked up for every change of every feed; Enum's own hash is Python's.
    __hash__ = object.__hash__

    MORNING = "morning"
    AFTERNOON = "afternoon"
    EVENING = "evening"
    NIGHT = "night"


# When each begins, in order.
_BEGINS: Final[tuple[tuple[time, PartOfDay], ...]] = (
    (time(5), PartOfDay.MORNING),
    (time(12), PartOfDay.AFTERNOON),
    (time(18), PartOfDay.EVENING),
    (time(22), PartOfDay.NIGHT),
)


class PartSpan:
    """A part of a certain day: from `begin` until just before `end`, in UTC."""

    __slots__ = ("begin", "end", "part")

    def __init__(self, part: PartOfDay, begin: datetime, end: datetime) -> None:
        self.part = part
        self.begin = begin
        self.end = end


# The last part asked for in each zone: most users of a zone ask within the same hours. There are about 600
# names of zones.
_kept: Final[dict[str, PartSpan]] = {}
_KEPT_MAX: Final = 1000


def span_at(now: datetime, zone: ZoneInfo) -> PartSpan:
    """The part of the day in which `now` falls in that zone. Its ends are where the clocks on the wall show
    them, so that a part may be an hour longer or shorter on a day when they change."""
    span = _kept.get(zone.key)
    if span is None or not span.begin <= now < span.end:
        if len(_kept) >= _KEPT_MAX:
            _kept.clear()
        span = _kept[zone.key] = _found_span(now, zone)
    return span


def _found_span(now: datetime, zone: ZoneInfo) -> PartSpan:
    today = now.astimezone(zone).date()
    ends = [
        (instant(datetime.combine(day, at), zone), part)
        for day in (today - timedelta(days=1), today, today + timedelta(days=1))
        for at, part in _BEGINS
    ]
    for (begin, part), (end, _) in pairwise(ends):
        if begin <= now < end:
            return PartSpan(part, begin, end)
    raise AssertionError("three days have every moment of the middle one")


def next_midnight(day: date, zone: ZoneInfo) -> datetime:
    """When that day ends there, as UTC."""
    return instant(datetime.combine(day + timedelta(days=1), time()), zone)
