"""What comes back from a worker: plain values, which need no library to be unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = [
    "Alarm",
    "Article",
    "Attendee",
    "Collection",
    "Event",
    "Expansion",
    "Feed",
    "Home",
    "Unreadable",
]


class Unreadable(Exception):
    """The bytes are not what they were to be."""


@dataclass(frozen=True, slots=True)
class Attendee:
    """Somebody who is invited."""

    name: str | None
    email: str | None
    role: str | None
    """chair, required or optional."""
    status: str | None
    """accepted, declined, tentative or needs-action."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """When the calendar wants to remind: ISO 8601, as a duration (`-PT15M`) or a time."""

    trigger: str
    action: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event, or one repetition of it."""

    uid: str
    recurrence_id: str | None
    """Which repetition: when it would have begun had nobody moved it. None for what does not repeat."""
    start: datetime
    end: datetime
    """UTC, exclusive. Of whole days: their midnights."""
    days: tuple[str, str] | None
    """First and last date of an event that lasts whole days; None for one with times."""
    title: str | None
    location: str | None
    description: str | None
    status: str | None
    """confirmed, tentative or cancelled."""
    url: str | None
    organizer: str | None
    attendees: tuple[Attendee, ...]
    alarms: tuple[Alarm, ...]

    def touches(self, begin: datetime, end: datetime) -> bool:
        """Whether any of it lies in the time from `begin` until just before `end`."""
        return self.start < end and (self.end > begin or self.start >= begin)


@dataclass(frozen=True, slots=True)
class Expansion:
    """What takes place in a window of time."""

    events: tuple[Event, ...]
    """By start, then by UID."""
    broken: int
    """UIDs that could not be read."""
    left_out: int
    """Events past the limit: those that begin last."""
    name: str | None = None
    """What the calendar calls itself."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A calendar of an account."""

    href: str
    """As the server gives it: a path, or a whole address."""
    name: str | None


@dataclass(frozen=True, slots=True)
class Home:
    """What a server tells of an account, as far as it does."""

    principal: str | None
    """The account's own page."""
    calendars: str | None
    """Where its calendars are listed."""
    is_calendar: bool
    """Whether what was asked is a calendar itself."""


@dataclass(frozen=True, slots=True)
class Article:
    """One entry of a feed."""

    guid: str | None
    """What the publisher calls it; may mean something in this feed alone."""
    link: str | None
    title: str | None
    summary: str | None
    author: str | None
    published: datetime | None
    """UTC; the last change where there is no first day."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed as it is now."""

    title: str | None
    updated: datetime | None
    articles: tuple[Article, ...]
    """Newest first; those without a date where the publisher put them."""
