"""The post-processor `time-of-day`: what people want to see first in the morning is not what they want at
night.

It knows items by their type, and reads of an event when it begins and ends. An item that carries no signals
makes no claim to be urgent or not, and is never hidden: that is for those which say of themselves that they
can wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from protocol.feed import FeedItem
from protocol.times import from_wire
from server.engine.context import Context
from server.engine.processors import Processed
from server.sources.day import PartOfDay, span_at
from server.sources.item_types import (
    CALENDAR_EVENT,
    TRANSIT_STATUS,
    WEATHER_ALERT,
    WEATHER_CURRENT,
    WEATHER_DAILY,
)
from server.sources.user import user_settings

__all__ = ["TimeOfDay"]

_BEFORE_MEETING: Final = timedelta(minutes=30)
_URGENT: Final = 0.8
# Before a meeting, what is neither near in time nor at least this urgent goes.
_WORTH_A_LOOK: Final = 0.5
# An event of a working day that begins in these hours is taken for work: no calendar says which it is.
_WORKING_HOURS: Final = range(8, 18)
_WORKING_DAYS: Final = range(5)

# By type. Other processors add their own boosts to these, so none but the meeting's is a full 1.
_MORNING: Final = {WEATHER_ALERT: 0.8, WEATHER_CURRENT: 0.7}
_MORNING_TRANSIT: Final = 0.6
_MORNING_FIRST_EVENT: Final = 0.5
_AFTERNOON_EVENT: Final = 0.6
_EVENING: Final = {WEATHER_DAILY: 0.5}
_MEETING: Final = 1.0
_BESIDE_MEETING: Final = {TRANSIT_STATUS: 0.9, WEATHER_ALERT: 0.85, WEATHER_CURRENT: 0.8}


@dataclass(frozen=True, slots=True)
class _Event:
    """An event with a time of its own that takes place."""

    item: FeedItem
    start: datetime
    end: datetime


@dataclass(slots=True)
class _View:
    """The items as they are looked at in one run, and what comes of it."""

    items: Sequence[FeedItem]
    now: datetime
    zone: ZoneInfo
    events: list[_Event]
    boost: dict[str, float]
    suppress: list[str]
    changes: list[datetime]


class TimeOfDay:
    """See the module. One serves all sessions."""

    name = "freya.time-of-day"

    def __call__(self, items: Sequence[FeedItem], ctx: Context) -> Processed:
        zone, now = user_settings(ctx).zone, ctx.time
        span = span_at(now, zone)
        events = [event for item in items if item.type == CALENDAR_EVENT for event in _timed(item)]
        view = _View(items, now, zone, events, {}, [], [span.end])
        meetings = _meetings_ahead(view) if events else events
        if meetings:
            _before_meeting(view, meetings)
        else:
            _OF_PART[span.part](view)
        return Processed(suppress=view.suppress, boost=view.boost, next_change_at=min(view.changes))


def _timed(item: FeedItem) -> Iterator[_Event]:
    """The event that an item shows, if it has a time; one that makes no sense is nobody's meeting."""
    data = item.data
    start, end = data.get("startDate"), data.get("endDate")
    if data.get("isAllDay") is True or data.get("status") == "cancelled" or not isinstance(start, str):
        return
    try:
        begins = _moment(start)
        yield _Event(item, begins, _moment(end) if isinstance(end, str) else begins)
    except ValueError:
        return


# The same few events are looked at for every change of a feed.
@lru_cache(maxsize=4096)
def _moment(text: str) -> datetime:
    return from_wire(text)


def _meetings_ahead(view: _View) -> list[_Event]:
    """Those that begin within half an hour; and when the next one comes that near, or has begun."""
    near: list[_Event] = []
    for event in view.events:
        if event.start > view.now:
            begins_to_matter = event.start - _BEFORE_MEETING
            if begins_to_matter > view.now:
                view.changes.append(begins_to_matter)
            else:
                near.append(event)
                view.changes.append(event.start)
    return near


def _before_meeting(view: _View, meetings: list[_Event]) -> None:
    """The meeting first, what one needs to get there beside it, and no distraction."""
    for event in meetings:
        view.boost[event.item.id] = _MEETING
    for item in view.items:
        if item.type in _BESIDE_MEETING:
            view.boost[item.id] = _BESIDE_MEETING[item.type]
        elif item.id not in view.boost and not _is_pressing(item, _WORTH_A_LOOK, also="upcoming"):
            view.suppress.append(item.id)


def _morning(view: _View) -> None:
    for item in view.items:
        if item.type in _MORNING:
            view.boost[item.id] = _MORNING[item.type]
        elif item.type == TRANSIT_STATUS and _today(view).weekday() in _WORKING_DAYS:
            view.boost[item.id] = _MORNING_TRANSIT
    if view.events:
        _boost_first_event(view)


def _boost_first_event(view: _View) -> None:
    """The first event of the day, until it is over."""
    today = _today(view)
    of_today = [event for event in view.events if event.start.astimezone(view.zone).date() == today.date()]
    first = min(of_today, key=lambda event: event.start, default=None)
    if first is not None and max(first.start, first.end) > view.now:
        view.boost[first.item.id] = _MORNING_FIRST_EVENT
        view.changes.append(max(first.start, first.end))


def _today(view: _View) -> datetime:
    return view.now.astimezone(view.zone)


def _afternoon(view: _View) -> None:
    for item in view.items:
        signals = item.signals
        if item.type == CALENDAR_EVENT and signals is not None and signals.time_relevance == "imminent":
            view.boost[item.id] = _AFTERNOON_EVENT


def _evening(view: _View) -> None:
    for item in view.items:
        if item.type in _EVENING:
            view.boost[item.id] = _EVENING[item.type]
    for event in view.events:
        signals = event.item.signals
        if signals is not None and signals.time_relevance == "ambient" and _is_work(event, view.zone):
            view.suppress.append(event.item.id)


def _night(view: _View) -> None:
    # Most items don't say, and are passed over quickly.
    view.suppress += [
        item.id for item in view.items if item.signals is not None and not _is_pressing(item, _URGENT)
    ]


_OF_PART: Final = {
    PartOfDay.MORNING: _morning,
    PartOfDay.AFTERNOON: _afternoon,
    PartOfDay.EVENING: _evening,
    PartOfDay.NIGHT: _night,
}


def _is_pressing(item: FeedItem, urgency: float, *, also: str | None = None) -> bool:
    """Whether an item is imminent (or `also`), or at least that urgent; or does not say."""
    signals = item.signals
    if signals is None:
        return True
    if signals.time_relevance == "imminent" or (also is not None and signals.time_relevance == also):
        return True
    return signals.urgency is not None and signals.urgency >= urgency


def _is_work(event: _Event, zone: ZoneInfo) -> bool:
    local = event.start.astimezone(zone)
    return local.weekday() in _WORKING_DAYS and local.hour in _WORKING_HOURS
