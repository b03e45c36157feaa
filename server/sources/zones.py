"""Time zones by name, and wall-clock time in them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from protocol.times import utc

__all__ = ["TimeZoneName", "instant", "local_midnight", "whole_ms", "zone"]

# Names of the IANA database. Its `right/` and `posix/` trees count leap seconds or repeat the rest, and the
# others name whatever a machine is set to.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}")
_NOT_PLACES = frozenset({"localtime", "posixrules", "Factory"})


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises ValueError if there is none."""
    if _NAME.fullmatch(name) and name not in _NOT_PLACES and not name.startswith(("right/", "posix/")):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # OSError: the name of a folder of the database ("Europe") was opened as if it were a file.
            pass
    raise ValueError("not a time zone of the IANA database, such as Europe/London")


def instant(wall: datetime, where: ZoneInfo, fold: int = 0) -> datetime:
    """When the clocks of that zone show `wall` (naive), as UTC.

    A time that they skip is as long after the change as it would have been (RFC 5545, section 3.3.5: by the
    offset from before the gap). Of a time that they show twice, `fold` chooses the first (0) or second (1).
    """
    first = wall.replace(tzinfo=where, fold=0)
    if fold:
        second = wall.replace(tzinfo=where, fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        if before is not None and after is not None and before > after:
            return second.astimezone(UTC)
    return first.astimezone(UTC)


def local_midnight(day: date, where: ZoneInfo) -> datetime:
    """When that day begins there, as UTC: where clocks skip midnight itself, when they change."""
    # A midnight that clocks skip is, by the offset from before, the very instant at which they change.
    return instant(datetime.combine(day, time()), where)


def whole_ms(when: datetime) -> datetime:
    """The same time in UTC as the wire carries it, in whole milliseconds: what is kept must compare equal
    to what comes back. Raises ValueError for a time without a zone."""
    moment = utc(when)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _known(name: str) -> str:
    zone(name)
    return name


TimeZoneName = Annotated[
    str,
    Field(min_length=1, max_length=64, examples=["Europe/London"], json_schema_extra={"format": "time-zone"}),
    AfterValidator(_known),
]
"""A field that holds the name of an IANA time zone."""
