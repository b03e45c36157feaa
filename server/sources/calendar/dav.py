"""An account on a CalDAV server (RFC 4791): where its calendars are, and what is in them.

What a server answers is read in a worker; every byte travels through the guarded fetcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from server.engine.clock import Clock
from server.engine.source import BadAnswer, ConfigProblem, SourceFailure
from server.reading.jobs import read_dav_calendars, read_dav_home
from server.reading.values import Home, Unreadable
from server.upstream.guarded import Fetched
from server.upstream.upstreams import Upstreams
from server.upstream.urls import follow, host_of

__all__ = ["DavAccount", "DavCalendar"]

# Calendars are seldom made or deleted; those that are gone are noticed at once.
_FOUND_S: Final = 3600.0
_LISTING_BYTES: Final = 1024 * 1024

_FIND_HOME: Final = b"""<?xml version="1.0" encoding="utf-8"?>
<d:propfind xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><d:prop>
<d:current-user-principal/><c:calendar-home-set/><d:resourcetype/>
</d:prop></d:propfind>"""

_FIND_CALENDARS: Final = b"""<?xml version="1.0" encoding="utf-8"?>
<d:propfind xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><d:prop>
<d:resourcetype/><d:displayname/><c:supported-calendar-component-set/>
</d:prop></d:propfind>"""

_FIND_EVENTS: Final = """<?xml version="1.0" encoding="utf-8"?>
<c:calendar-query xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><d:prop><c:calendar-data/></d:prop>
<c:filter><c:comp-filter name="VCALENDAR"><c:comp-filter name="VEVENT">
<c:time-range start="{begin}" end="{end}"/>
</c:comp-filter></c:comp-filter></c:filter></c:calendar-query>"""


@dataclass(frozen=True, slots=True)
class DavCalendar:
    """A calendar of an account."""

    url: str
    name: str | None


class DavAccount:
    """One account, with its password. Serves one source; its calls are made one after another."""

    def __init__(self, upstreams: Upstreams, clock: Clock, url: str, username: str, password: str) -> None:
        self._upstreams = upstreams
        self._clock = clock
        self._url = url
        self._auth = (username, password)
        self._calendars: tuple[DavCalendar, ...] = ()
        self._found_until_s = 0.0

    async def check(self) -> None:
        """Asks the server who we are. Raises SourceFailure; Unauthorized where it refuses the password."""
        await self._home(self._url)

    async def calendars(self) -> tuple[DavCalendar, ...]:
        """The account's calendars, asked for anew once an hour. Raises SourceFailure."""
        if self._clock.monotonic() >= self._found_until_s:
            self._calendars = await self._find()
            self._found_until_s = self._clock.monotonic() + _FOUND_S
        return self._calendars

    def forget_calendars(self) -> None:
        """Has them asked for the next time: one that was there is gone."""
        self._found_until_s = 0.0

    async def events(self, calendar: DavCalendar, begin: datetime, end: datetime, max_bytes: int) -> bytes:
        """The server's answer with the events of a calendar in that time. Raises SourceFailure."""
        query = _FIND_EVENTS.format(begin=_basic(begin), end=_basic(end)).encode()
        return (await self._ask("REPORT", calendar.url, "1", query, max_bytes)).body

    async def _find(self) -> tuple[DavCalendar, ...]:
        """From the address that the user gave to the calendars (RFC 6764 section 6)."""
        at, home = await self._start()
        if home.is_calendar:
            return (DavCalendar(at, None),)
        if home.calendars is None and home.principal is not None:
            at = _joined(at, home.principal)
            at, home = await self._home(at)
        listing = at if home.calendars is None else _joined(at, home.calendars)
        answer = await self._ask("PROPFIND", listing, "1", _FIND_CALENDARS, _LISTING_BYTES)
        try:
            found = await self._upstreams.workers.run("The calendar server", read_dav_calendars, answer.body)
        except Unreadable:
            raise _no_dav(answer.url) from None
        if not found:
            raise ConfigProblem("that account has no calendar")
        return tuple(DavCalendar(_joined(answer.url, each.href), each.name) for each in found)

    async def _start(self) -> tuple[str, Home]:
        try:
            return await self._home(self._url)
        except (BadAnswer, ConfigProblem) as failure:
            # People give the address of a web page; servers say at a fixed place where CalDAV begins.
            try:
                return await self._home(_joined(self._url, "/.well-known/caldav"))
            except (BadAnswer, ConfigProblem):
                raise failure from None

    async def _home(self, url: str) -> tuple[str, Home]:
        answer = await self._ask("PROPFIND", url, "0", _FIND_HOME, _LISTING_BYTES)
        try:
            return answer.url, await self._upstreams.workers.run(
                "The calendar server", read_dav_home, answer.body
            )
        except Unreadable:
            raise _no_dav(answer.url) from None

    async def _ask(self, method: str, url: str, depth: str, body: bytes, max_bytes: int) -> Fetched:
        headers: Mapping[str, str] = {"Depth": depth, "Content-Type": 'application/xml; charset="utf-8"'}
        answer = await self._upstreams.guarded.fetch(
            url, method=method, headers=headers, auth=self._auth, content=body, max_bytes=max_bytes
        )
        if answer.status != 207:
            raise _no_dav(answer.url)
        return answer


def _joined(base: str, href: str) -> str:
    """An address that a server names, relative to where it named it. Raises SourceFailure.

    It may be on another host, as large providers have it: whoever names it has the password already. It may
    not be without encryption where the user asked for it.
    """
    try:
        return follow(base, href)
    except ValueError as wrong:
        raise BadAnswer(f"the calendar server names an address that cannot be read: {wrong}") from None


def _no_dav(url: str) -> SourceFailure:
    return BadAnswer(f"{host_of(url)} does not answer as a CalDAV server does")


def _basic(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
