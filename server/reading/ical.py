"""iCalendar (RFC 5545) to the events of a few days.

A calendar may be decades of somebody's life, so the text is cut into events first, and those that can't
matter are dropped unread; the rest is parsed and expanded by libraries, one UID at a time. What is malformed,
or takes unreasonably long, costs that UID alone.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events

from server.reading.forward import forward
from server.reading.ical_event import event_of
from server.reading.patience import OutOfPatience, within_cpu
from server.reading.values import Event, Expansion, Unreadable

__all__ = ["expand"]

_UID_CPU_S: Final = 0.5
"""For one UID with all its repetitions: a daily event of a hundred years takes a tenth of it."""

_BLOCK: Final = re.compile(
    r"^BEGIN:(VEVENT|VTIMEZONE)[ \t]*\r?\n(.*?)^END:\1[ \t]*\r?$", re.MULTILINE | re.DOTALL | re.IGNORECASE
)
_NAME: Final = re.compile(r"^X-WR-CALNAME(?:;[^:\r\n]*)?:([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_NAME_MAX: Final = 200
_FOLD: Final = re.compile(r"\r?\n[ \t]")
# Of a line more is never shown; what is longer is most often a file, attached inside the event.
_LONG_LINE: Final = re.compile(r"^([^\r\n]{4096})[^\r\n]+", re.MULTILINE)
_REPEATS: Final = re.compile(r"^(?:RRULE|RDATE|RECURRENCE-ID)[;:]", re.MULTILINE | re.IGNORECASE)
_UID: Final = re.compile(r"^UID(?:;[^:\r\n]*)?:([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_FROM: Final = re.compile(r"^DTSTART(?:;[^:\r\n]*)?:(\d{8})", re.MULTILINE | re.IGNORECASE)
_UP_TO: Final = re.compile(r"^DTEND(?:;[^:\r\n]*)?:(\d{8})", re.MULTILINE | re.IGNORECASE)
_LASTS: Final = re.compile(r"^DURATION[;:]", re.MULTILINE | re.IGNORECASE)
_UNTIL: Final = re.compile(r"^RRULE[;:](?:[^\r\n]*;)?UNTIL=(\d{8})", re.MULTILINE | re.IGNORECASE)
_DATES: Final = re.compile(r"^(?:RDATE|RECURRENCE-ID)[;:]", re.MULTILINE | re.IGNORECASE)
# Between a date in any zone and the same moment's date in ours, with room to spare.
_SLACK: Final = timedelta(days=3)
# Of an event that tells its length as a duration, which is not worth reading here.
_LONG: Final = timedelta(days=400)


def expand(texts: Sequence[bytes], begin: datetime, end: datetime, zone: str, most: int) -> Expansion:
    """The events of one calendar, whose text may come in parts, that touch the time from `begin` until just
    before `end`. Times without a zone of their own, and whole days, are those of `zone`.

    Raises Unreadable where no part of it is a calendar.
    """
    where = ZoneInfo(zone)
    begin, end = begin.astimezone(where), end.astimezone(where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' remarks about calendars of others
        blocks, broken = _cut(texts)
        if texts and broken == len(texts) and not blocks.events:
            raise Unreadable
        # Zones that one calendar defines must not be known in the next.
        icalendar.use_zoneinfo()
        for block in dict.fromkeys(blocks.zones):
            _learn(block)
        found: list[Event] = []
        for uid, parts in _by_uid(blocks.events, begin.date(), end.date()).items():
            try:
                with within_cpu(_UID_CPU_S):
                    found += _expanded(uid, parts, begin, end, where)
            except (Exception, OutOfPatience, RecursionError):
                # Whatever two libraries make of what a stranger wrote: it costs this event.
                broken += 1
    found.sort(key=lambda event: (event.start, event.uid, event.recurrence_id or ""))
    return Expansion(tuple(found[:most]), broken, max(len(found) - most, 0), blocks.name)


@dataclass(slots=True)
class _Blocks:
    zones: list[str]
    events: list[str]
    name: str | None = None


def _cut(texts: Sequence[bytes]) -> tuple[_Blocks, int]:
    """The events and time zones as they are written; and how many events had no end, or texts no calendar."""
    blocks, broken = _Blocks([], []), 0
    for raw in texts:
        text = raw.decode("utf-8-sig", errors="replace").lstrip()
        if text[:15].upper() != "BEGIN:VCALENDAR":
            broken += 1
            continue
        text = _FOLD.sub("", text).replace("\0", "")
        name = _NAME.search(text)
        blocks.name = blocks.name or (name[1].strip()[:_NAME_MAX] or None if name else None)
        for match in _BLOCK.finditer(text):
            kind, block = match[1].upper(), match[0].rstrip()
            if kind == "VTIMEZONE":
                blocks.zones.append(block)
                continue
            # An event that begins inside another one: the outer one has no end of its own.
            begins = block.upper().rfind("\nBEGIN:VEVENT")
            if begins >= 0:
                broken += block.upper().count("\nBEGIN:VEVENT")
                block = block[begins + 1 :]
            blocks.events.append(block)
    return blocks, broken


def _learn(block: str) -> None:
    text = f"BEGIN:VCALENDAR\r\n{block}\r\nEND:VCALENDAR\r\n"
    try:
        with within_cpu(_UID_CPU_S):
            icalendar.Calendar.from_ical(text)
    except (Exception, OutOfPatience, RecursionError):
        # Its events are then read as if they named no zone.
        return


def _by_uid(blocks: Iterable[str], first: date, last: date) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for index, block in enumerate(blocks):
        if _may_matter(block, first - _SLACK, last + _SLACK):
            uid = _UID.search(block)
            groups.setdefault(uid[1].strip() if uid else f"(none) {index}", []).append(block)
    return groups


def _may_matter(block: str, first: date, last: date) -> bool:
    """False only for what certainly takes place before or after these days."""
    begins = _day(_FROM.search(block))
    if begins is None:
        return True  # to be counted as broken by those who know
    if _DATES.search(block):
        return True
    if begins > last:
        return False
    if _REPEATS.search(block):
        until = _day(_UNTIL.search(block))
        return until is None or until + _LONG >= first
    ends = _day(_UP_TO.search(block))
    if ends is None:
        ends = begins + (_LONG if _LASTS.search(block) else timedelta())
    return max(begins, ends) >= first


def _day(match: re.Match[str] | None) -> date | None:
    if match is None:
        return None
    try:
        return date(int(match[1][:4]), int(match[1][4:6]), int(match[1][6:]))
    except ValueError:
        return None


def _expanded(
    uid: str, blocks: Sequence[str], begin: datetime, end: datetime, where: ZoneInfo
) -> Iterator[Event]:
    calendar = icalendar.Calendar()
    for block in blocks:
        component = icalendar.Event.from_ical(_LONG_LINE.sub(r"\1", block))
        if not any("RANGE=" in block for block in blocks):  # else the distance from the first day matters
            forward(component, begin)
        calendar.subcomponents.append(component)
    repeats = any(_REPEATS.search(block) for block in blocks)
    day = timedelta(days=1)
    for component in recurring_ical_events.of(calendar).between(begin - day, end + day):
        event = event_of(component, uid, where, repeats=repeats)
        if event.touches(begin, end):
            yield event
