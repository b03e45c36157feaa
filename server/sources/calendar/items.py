"""Events as items of the feed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from protocol.feed import ContextEntry, FeedItem, Signals, Slot
from protocol.frozen import JsonObject, JsonValue
from protocol.ids import SourceId
from protocol.times import to_wire
from server.reading.values import Event
from server.sources.calendar.moments import Window, goes_at
from server.sources.item_types import CALENDAR_EVENT

__all__ = ["CALENDAR_ID", "Entry", "context_of", "item_of"]

CALENDAR_ID: Final = SourceId("freya.calendar")

_SLOTS: Final = {
    "insight": Slot("One short sentence on what matters about this event."),
    "preparation": Slot("What to prepare or bring for this event, in at most 12 words."),
    "crossSource": Slot("How the weather, travel or other items bear on this event, in at most 15 words."),
}
_IN_PROGRESS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a certain calendar."""

    event: Event
    calendar: str
    """What the calendar is called by its server: the same UID in two calendars is two events."""
    calendar_name: str | None

    @property
    def local_id(self) -> str:
        """The same for the same occurrence of the same event, wherever it is moved to. A hash, since UIDs are
        of any length and kind."""
        name = blake2b(f"{self.calendar}\0{self.event.uid}".encode(), digest_size=9).hexdigest()
        repetition = self.event.recurrence_id
        return name if repetition is None else f"{name}-{repetition}"


def item_of(entry: Entry, signals: Signals, zone: ZoneInfo) -> FeedItem:
    """The item of an event. Raises ValueError for what cannot be on the wire."""
    event = entry.event
    first_day, last_day = event.days or (None, None)
    data: dict[str, JsonValue] = {
        "uid": event.uid,
        "title": event.title,
        "startDate": to_wire(event.start),
        "endDate": to_wire(event.end),
        "isAllDay": event.days is not None,
        "startDay": first_day,
        "endDay": last_day,
        "location": event.location,
        "description": event.description,
        "calendarName": entry.calendar_name,
        "status": event.status,
        "url": event.url,
        "organizer": event.organizer,
        "attendees": [
            {"name": who.name, "email": who.email, "role": who.role, "status": who.status}
            for who in event.attendees
        ],
        "alarms": [{"trigger": alarm.trigger, "action": alarm.action} for alarm in event.alarms],
        "recurrenceId": event.recurrence_id,
    }
    return FeedItem.make(
        id=f"{CALENDAR_ID}/{entry.local_id}",
        source_id=CALENDAR_ID,
        type=CALENDAR_EVENT,
        timestamp=event.start,
        data=data,
        signals=signals,
        slots=_SLOTS,
        expires_at=goes_at(event, zone),
    )


def context_of(entries: Sequence[Entry], now: datetime, window: Window) -> ContextEntry:
    """What other sources may want to know of the day."""
    timed = [each for each in entries if each.event.days is None and each.event.status != "cancelled"]
    running = [each for each in timed if each.event.start <= now < each.event.end]
    following = next((each for each in timed if each.event.start > now), None)
    today = list(_of_today(entries, window))
    value: JsonObject = {
        "inProgress": [_brief(each) for each in running[:_IN_PROGRESS_MAX]],
        "nextEvent": None if following is None else _brief(following),
        "hasTodayEvents": bool(today),
        "todayEventCount": len(today),
    }
    return ContextEntry.make((CALENDAR_ID, "calendar"), value)


def _of_today(entries: Sequence[Entry], window: Window) -> Iterator[Entry]:
    for each in entries:
        if each.event.status != "cancelled" and each.event.touches(window.begin, window.tomorrow):
            yield each


def _brief(entry: Entry) -> JsonObject:
    event = entry.event
    return {
        "title": event.title,
        "startDate": to_wire(event.start),
        "endDate": to_wire(event.end),
        "location": event.location,
        "calendarName": entry.calendar_name,
    }
