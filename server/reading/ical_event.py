"""One event of a calendar, as plain values. Every text is as long as it may be, and no longer.

The library's components are `Any` in here: their types say of no property what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from server.reading.values import Alarm, Attendee, Event

__all__ = ["event_of"]

_TITLE_MAX: Final = 500
_TEXT_MAX: Final = 2000
_SHORT_MAX: Final = 200
_URL_MAX: Final = 2000
_ATTENDEES_MAX: Final = 50
_ALARMS_MAX: Final = 10

_ROLES: Final = {"CHAIR": "chair", "REQ-PARTICIPANT": "required", "OPT-PARTICIPANT": "optional"}
_ANSWERS: Final = {
    "ACCEPTED": "accepted",
    "DECLINED": "declined",
    "TENTATIVE": "tentative",
    "NEEDS-ACTION": "needs-action",
}
_STATUSES: Final = {"CONFIRMED": "confirmed", "TENTATIVE": "tentative", "CANCELLED": "cancelled"}


def event_of(component: Any, uid: str, where: ZoneInfo, *, repeats: bool) -> Event:
    """Reads an expanded component. Raises whatever its properties make the library raise."""
    begins: date = component["DTSTART"].dt
    ends: date = component["DTEND"].dt if "DTEND" in component else begins
    whole_days = not isinstance(begins, datetime)
    start, end = _instant(begins, where), _instant(ends, where)
    return Event(
        uid=uid[:_TITLE_MAX],
        recurrence_id=_recurrence(component) if repeats else None,
        start=start,
        end=max(start, end),
        days=_days(begins, ends) if whole_days else None,
        title=_text(component, "SUMMARY", _TITLE_MAX),
        location=_text(component, "LOCATION", _TITLE_MAX),
        description=_text(component, "DESCRIPTION", _TEXT_MAX),
        status=_STATUSES.get((_text(component, "STATUS", 20) or "").upper()),
        url=_link(component),
        organizer=_organizer(component),
        attendees=tuple(_attendees(component)),
        alarms=tuple(_alarms(component)),
    )


def _instant(when: date, where: ZoneInfo) -> datetime:
    if not isinstance(when, datetime):
        # A midnight that clocks skip is, by the offset from before, the very instant at which they change.
        return datetime.combine(when, time(), where).astimezone(UTC)
    return (when if when.tzinfo is not None else when.replace(tzinfo=where)).astimezone(UTC)


def _days(begins: date, ends: date) -> tuple[str, str]:
    last = max(begins, ends - timedelta(days=1))
    return begins.isoformat(), last.isoformat()


def _recurrence(component: Any) -> str:
    original: date = component["RECURRENCE-ID"].dt
    if not isinstance(original, datetime):
        return original.strftime("%Y%m%d")
    if original.tzinfo is None:
        return original.strftime("%Y%m%dT%H%M%S")
    return original.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _text(component: Any, name: str, most: int) -> str | None:
    value = next(iter(_all(component, name)), None)
    text = "" if value is None else str(value).strip()
    return text[:most] or None


def _link(component: Any) -> str | None:
    url = _text(component, "URL", _URL_MAX + 1)
    return url if url and len(url) <= _URL_MAX and url.lower().startswith(("http://", "https://")) else None


def _organizer(component: Any) -> str | None:
    return next((_param(value, "CN") or _email(value) for value in _all(component, "ORGANIZER")), None)


def _attendees(component: Any) -> Iterator[Attendee]:
    for value in _all(component, "ATTENDEE")[:_ATTENDEES_MAX]:
        yield Attendee(
            name=_param(value, "CN"),
            email=_email(value),
            role=_ROLES.get((_param(value, "ROLE") or "REQ-PARTICIPANT").upper()),
            status=_ANSWERS.get((_param(value, "PARTSTAT") or "NEEDS-ACTION").upper()),
        )


def _all(component: Any, name: str) -> list[Any]:
    """A property's values: it may be given several times, also where it should not."""
    value: Any = component.get(name)
    if isinstance(value, list):
        return cast("list[Any]", value)
    return [] if value is None else [value]


def _param(value: Any, name: str) -> str | None:
    text = str(getattr(value, "params", {}).get(name, "")).strip()
    return text[:_SHORT_MAX] or None


def _email(value: Any) -> str | None:
    text = str(value).strip()
    return text[7 : 7 + _SHORT_MAX] if text.lower().startswith("mailto:") else None


def _alarms(component: Any) -> Iterator[Alarm]:
    for alarm in component.walk("VALARM")[:_ALARMS_MAX]:
        for trigger in _all(alarm, "TRIGGER")[:1]:
            when: object = trigger.dt
            is_time = isinstance(when, datetime)
            text: str = when.astimezone(UTC).isoformat() if is_time else trigger.to_ical().decode()
            yield Alarm(text[:_SHORT_MAX], (_text(alarm, "ACTION", 20) or "DISPLAY").lower())
