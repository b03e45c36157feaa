"""When to ask again: refresh, retry and wake-up times. Pure; chance comes in as a number from 0 to 1."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from protocol.feed import ErrorCode

__all__ = ["FOREVER", "HAIR_S", "SPACING_S", "refresh_delay_s", "retry_delay_s", "wake_at"]

FOREVER: Final = float("inf")

HAIR_S: Final = 0.001
"""What is due so soon is due. Timers ring early, by rounding or by the event loop's resolution; to find
nothing to do then, and set the alarm to the next instant, would be to spin. As fine as times on the wire."""

SPACING_S: Final = 0.1
"""From the beginning of one run of a source to that of the next: what comes in a burst costs two runs, and a
source that asks for itself in its own answer does not spin."""

_RETRY_FIRST_S: Final = 2.0
_RETRY_MAX_S: Final = 300.0
# What a person must put right first: asking often only locks accounts.
_HUMAN_FIRST_S: Final = 60.0
_HUMAN_MAX_S: Final = 3600.0
# What an upstream may ask for at most.
_RETRY_AFTER_MAX_S: Final = 86_400.0
_SOON: Final = timedelta(milliseconds=50)
_LATER: Final = timedelta(seconds=1)


def refresh_delay_s(every_s: float, chance: float) -> float:
    """The time to the next periodic refresh: `every_s` within 10 %, so that sessions spread out."""
    return every_s * (0.9 + 0.2 * chance) if every_s > 0 else FOREVER


def retry_delay_s(code: ErrorCode, failures: int, retry_after_s: float | None, chance: float) -> float:
    """The time to the next try after the `failures`-th failure in a row (from 1).

    Doubles up to 5 minutes (an hour where a person must act), the later half of it left to chance; never
    sooner than the upstream asks for.
    """
    human = code in ("unauthorized", "config")
    first, most = (_HUMAN_FIRST_S, _HUMAN_MAX_S) if human else (_RETRY_FIRST_S, _RETRY_MAX_S)
    # The exponent is bounded, since 2.0 ** 1024 is not a number.
    backoff = min(most, first * 2.0 ** min(failures - 1, 32)) * (0.5 + 0.5 * chance)
    # Chance also spreads those whom an upstream has given one and the same moment.
    asked = min(retry_after_s or 0.0, _RETRY_AFTER_MAX_S) * (1 + 0.1 * chance)
    return max(backoff, asked)


def wake_at(wanted: datetime | None, now: datetime) -> datetime | None:
    """The moment at which a wanted change is looked for. One that names the past or this very moment again
    and again must not spin."""
    if wanted is None:
        return None
    return now + _LATER if wanted <= now else max(wanted, now + _SOON)
