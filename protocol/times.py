"""Times and durations on the wire: RFC 3339 in UTC with `Z`, and whole milliseconds.

Inside, times are aware datetimes in UTC and durations are seconds as `float`; this is the one place
where either is turned into what the wire carries.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

__all__ = ["from_ms", "from_wire", "to_ms", "to_wire", "utc_ms"]

# RFC 3339, section 5.6. `fromisoformat` takes far more (bare dates, week dates, local times).
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def to_wire(when: datetime) -> str:
    """The wire form of an aware datetime: UTC, milliseconds only where they are not zero.

    What is finer than a millisecond is cut off. Raises ValueError for a datetime without a zone.
    """
    if when.tzinfo is not UTC:
        when = _utc(when)
    if when.microsecond >= 1000:
        return when.isoformat(timespec="milliseconds")[:23] + "Z"
    return when.isoformat(timespec="seconds")[:19] + "Z"


def from_wire(text: str) -> datetime:
    """An RFC 3339 time with any offset, as an aware datetime in UTC. Raises ValueError for anything else."""
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("not an RFC 3339 time with an offset")
    return _utc(datetime.fromisoformat(text.upper()))


def utc_ms(when: datetime) -> datetime:
    """The same time as the wire carries it: in UTC, in whole milliseconds.

    Raises ValueError for a datetime without a zone.
    """
    if when.tzinfo is not UTC:
        when = _utc(when)
    odd = when.microsecond % 1000
    return when.replace(microsecond=when.microsecond - odd) if odd else when


def to_ms(seconds: float) -> int:
    """Seconds, as used inside, in whole milliseconds, as the wire carries them."""
    return round(seconds * 1000)


def from_ms(milliseconds: float) -> float:
    """Milliseconds of the wire, in seconds."""
    return milliseconds / 1000


def _utc(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return when.astimezone(UTC)
    except OverflowError as overflow:
        raise ValueError("a time before year 1 or after year 9999") from overflow
