"""Where the events come from: an account with several calendars, or one published calendar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import anyio
import structlog

from server.engine.source import BadAnswer, ConfigProblem, SourceFailure
from server.reading.jobs import expand_calendar, expand_dav_answer
from server.reading.values import Expansion, Unreadable
from server.sources.calendar.dav import DavAccount, DavCalendar
from server.sources.calendar.items import Entry
from server.sources.services import Services
from server.upstream.digests import digest_of
from server.upstream.shared import Shared

__all__ = ["AccountReader", "CalendarReader", "Expansions", "Question", "UrlReader", "new_expansions"]

_EVENTS_MAX: Final = 500
_BYTES_MAX: Final = 8 * 1024 * 1024
# An event is kept as objects; about this much of them.
_EVENT_BYTES: Final = 2_000
_ACCEPT: Final = "text/calendar, */*;q=0.5"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Question:
    """Which time is asked about, and in which zone days are counted."""

    begin: datetime
    end: datetime
    zone: str


Expansions = Shared[tuple[bytes, Question], Expansion]
"""What was made of published calendars, by the digest of their text."""


def new_expansions() -> Expansions:
    """An empty memory, for one process."""
    return Shared(
        fresh_s=3600.0,
        failure_s=60.0,
        weigh=lambda expansion: 1024 + _EVENT_BYTES * len(expansion.events),
        most_bytes=32 * 1024 * 1024,
    )


class CalendarReader(Protocol):
    """Reads the events of one user's calendars."""

    async def read(self, question: Question) -> Sequence[Entry]:
        """The events that touch that time. Raises SourceFailure when none of the calendars can be read."""
        ...


class UrlReader:
    """A published calendar. Whoever names the same address shares what is fetched and what is made of it."""

    def __init__(self, services: Services, url: str, expansions: Expansions) -> None:
        self._services = services
        self._url = url
        self._expansions = expansions

    async def read(self, question: Question) -> Sequence[Entry]:
        """See CalendarReader."""
        outside = self._services.outside
        document = await outside.documents.get(self._url, accept=_ACCEPT, max_bytes=_BYTES_MAX)

        async def expand(_: object) -> Expansion:
            try:
                return await outside.workers.run(
                    "The calendar",
                    expand_calendar,
                    document.body,
                    question.begin,
                    question.end,
                    question.zone,
                    _EVENTS_MAX,
                )
            except Unreadable:
                raise BadAnswer("what is at that address is no calendar") from None

        key = (document.digest, question)
        expansion = await self._expansions.get(self._services.clock, key, expand)
        _note(expansion)
        return [Entry(event, "", expansion.name) for event in expansion.events]


@dataclass(slots=True)
class _Read:
    """What was read of a calendar, and from which answer."""

    digest: bytes
    question: Question
    expansion: Expansion


class AccountReader:
    """All calendars of an account. One that fails costs itself: what was last read of it stays, while it is
    about the same time."""

    def __init__(self, services: Services, account: DavAccount) -> None:
        self._services = services
        self._account = account
        self._read: dict[str, _Read] = {}

    async def read(self, question: Question) -> Sequence[Entry]:
        """See CalendarReader."""
        calendars = await self._account.calendars()
        failures: list[SourceFailure] = []

        async def read_one(calendar: DavCalendar) -> None:
            try:
                await self._refresh(calendar, question)
            except SourceFailure as failure:
                failures.append(failure)

        async with anyio.create_task_group() as group:
            for calendar in calendars:
                group.start_soon(read_one, calendar)
        if any(isinstance(failure, ConfigProblem) for failure in failures):
            self._account.forget_calendars()
        if len(failures) == len(calendars):
            raise failures[0]
        if failures:
            _log.info("calendars_unread", failed=len(failures), calendars=len(calendars))
        self._read = {each.url: self._read[each.url] for each in calendars if each.url in self._read}
        return [entry for calendar in calendars for entry in self._entries(calendar, question)]

    async def _refresh(self, calendar: DavCalendar, question: Question) -> None:
        body = await self._account.events(calendar, question.begin, question.end, _BYTES_MAX)
        digest = await digest_of(body)
        before = self._read.get(calendar.url)
        if before is not None and (before.digest, before.question) == (digest, question):
            return
        try:
            expansion = await self._services.outside.workers.run(
                "The calendar",
                expand_dav_answer,
                body,
                question.begin,
                question.end,
                question.zone,
                _EVENTS_MAX,
            )
        except Unreadable:
            raise BadAnswer("the calendar server sent an answer that makes no sense") from None
        _note(expansion)
        self._read[calendar.url] = _Read(digest, question, expansion)

    def _entries(self, calendar: DavCalendar, question: Question) -> list[Entry]:
        read = self._read.get(calendar.url)
        if read is None or read.question != question:
            return []
        return [Entry(event, calendar.url, calendar.name) for event in read.expansion.events]


def _note(expansion: Expansion) -> None:
    if expansion.broken or expansion.left_out:
        _log.info("calendar_read_in_part", broken=expansion.broken, left_out=expansion.left_out)
