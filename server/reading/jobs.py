"""What a worker can be asked to do. Each job loads the libraries that it needs when it is first done, so that
the server, which only names the jobs, carries none of them."""

from __future__ import annotations

from datetime import datetime

from server.reading.values import Collection, Expansion, Feed, Home

__all__ = [
    "expand_calendar",
    "expand_dav_answer",
    "read_dav_calendars",
    "read_dav_home",
    "read_news",
    "read_stations",
]


def expand_calendar(body: bytes, begin: datetime, end: datetime, zone: str, most: int) -> Expansion:
    """See `ical.expand`."""
    from server.reading.ical import expand

    return expand([body], begin, end, zone, most)


def expand_dav_answer(body: bytes, begin: datetime, end: datetime, zone: str, most: int) -> Expansion:
    """See `dav.expand_answer`."""
    from server.reading.dav import expand_answer

    return expand_answer(body, begin, end, zone, most)


def read_dav_home(body: bytes) -> Home:
    """See `dav.read_home`."""
    from server.reading.dav import read_home

    return read_home(body)


def read_dav_calendars(body: bytes) -> tuple[Collection, ...]:
    """See `dav.read_calendars`."""
    from server.reading.dav import read_calendars

    return read_calendars(body)


def read_news(body: bytes, content_type: str, url: str, most: int) -> Feed:
    """See `feed.read_feed`."""
    from server.reading.feed import read_feed

    return read_feed(body, content_type, url, most)


def read_stations(body: bytes) -> tuple[tuple[float, float], ...]:
    """See `stations.read_places`."""
    from server.reading.stations import read_places

    return read_places(body)
