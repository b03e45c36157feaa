"""Times and durations on the wire: RFC 3339 in UTC with `Z`, and whole milliseconds.

Inside, times are aware datetimes in UTC and durations are seconds as `float`; this is the one place
where either is turned into what the wire carries.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import orjson

__all__ = ["from_ms", "from_wire", "to_ms", "to_wire", "utc"]

# RFC 3339, section 5.6. `fromisoformat` takes far more (bare dates, week dates, local times).
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


_WHOLE_SECONDS: Final = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS


def to_wire(when: datetime) -> str:
    """The wire form of an aware datetime: UTC, milliseconds only where they are not zero.

    What is finer than a millisecond is cut off. Raises ValueError for a datetime without a zone.
    """
    if when.tzinfo is not UTC:
        when = utc(when)
    # orjson writes a time in a quarter of what `isoformat` takes; it comes in quotes.
    if when.microsecond >= 1000:
        return orjson.dumps(when)[1:24].decode() + "Z"
    return orjson.dumps(when, option=_WHOLE_SECONDS)[1:-1].decode()


def from_wire(text: str) -> datetime:
    """An RFC 3339 time with any offset, as an aware datetime in UTC. Raises ValueError for anything else."""
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("not an RFC 3339 time with an offset")
    return utc(datetime.fromisoformat(text.upper()))


def utc(when: datetime) -> datetime:
    """The same time in UTC. Raises ValueError for a datetime without a zone."""
    if when.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time before year 1 or after year 9999") from None


def to_ms(seconds: float) -> int:
    """Seconds, as used inside, in whole milliseconds, as the wire carries them."""
    return round(seconds * 1000)


def from_ms(milliseconds: float) -> float:
    """Milliseconds of the wire, in seconds."""
    return milliseconds / 1000
