"""What a CalDAV server (RFC 4791) answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

from caldav.elements import cdav, dav
from caldav.lib.error import DAVError
from caldav.response import DAVResponse

from server.reading.ical import expand
from server.reading.values import Collection, Expansion, Home, Unreadable

__all__ = ["expand_answer", "read_calendars", "read_home"]

_NAME_MAX: Final = 200
_CALENDARS_MAX: Final = 50


def read_home(body: bytes) -> Home:
    """Where an account's own page and its calendars are. Raises Unreadable."""
    principal = calendars = None
    is_calendar = False
    for _, properties in _responses(body):
        principal = principal or _href(properties.get(dav.CurrentUserPrincipal.tag))
        calendars = calendars or _href(properties.get(cdav.CalendarHomeSet.tag))
        is_calendar = is_calendar or _is_calendar(properties)
    return Home(principal, calendars, is_calendar)


def read_calendars(body: bytes) -> tuple[Collection, ...]:
    """The calendars in a listing that may hold events. Raises Unreadable."""
    found: list[Collection] = []
    for href, properties in _responses(body):
        components = properties.get(cdav.SupportedCalendarComponentSet.tag)
        holds_events = not isinstance(components, list) or "VEVENT" in components
        if href and _is_calendar(properties) and holds_events:
            name = properties.get(dav.DisplayName.tag)
            found.append(
                Collection(href, name.strip()[:_NAME_MAX] or None if isinstance(name, str) else None)
            )
    return tuple(found[:_CALENDARS_MAX])


def expand_answer(body: bytes, begin: datetime, end: datetime, zone: str, most: int) -> Expansion:
    """The events in the answer to such a query, as `ical.expand` makes them. Raises Unreadable."""
    try:
        results = _answer(body).parse_calendar_query()
    except (DAVError, ValueError, AssertionError):
        raise Unreadable from None
    texts = [result.calendar_data.encode() for result in results if result.calendar_data]
    try:
        return expand(texts, begin, end, zone, most)
    except Unreadable:
        return Expansion((), len(texts), 0)


def _answer(body: bytes) -> Any:
    """The library's answer; its tree has no types."""
    answer: Any = cast("Any", DAVResponse).from_bytes(body)
    tree = answer.tree
    if tree is None or (tree.tag != dav.MultiStatus.tag and next(tree.iter(dav.Response.tag), None) is None):
        raise Unreadable
    return answer


def _responses(body: bytes) -> list[tuple[str, dict[str, object]]]:
    """Each resource's address, as the server writes it, and its properties."""
    answer = _answer(body)
    try:
        results = answer.parse_propfind()
    except (DAVError, ValueError, AssertionError):
        raise Unreadable from None
    # Not the library's idea of the address: it takes the escapes out, and with them a name's own signs.
    hrefs = [str(each.findtext(dav.Href.tag) or "").strip() for each in answer.tree.iter(dav.Response.tag)]
    return [(href, result.properties) for href, result in zip(hrefs, results, strict=False)]


def _href(value: object) -> str | None:
    if isinstance(value, list):
        value = next(iter(cast("list[object]", value)), None)
    return value.strip() or None if isinstance(value, str) else None


def _is_calendar(properties: dict[str, object]) -> bool:
    kinds = properties.get(dav.ResourceType.tag)
    return isinstance(kinds, list) and cdav.Calendar.tag in kinds
