"""What an upstream's answers mean to a user: statuses and errors of HTTP as the engine's SourceFailures.

Nothing of an answer's text is in a message, and of an address only who was asked.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from server.engine.clock import Clock
from server.engine.source import (
    BadAnswer,
    ConfigProblem,
    RateLimited,
    SourceFailure,
    Unauthorized,
    Unreachable,
)
from server.upstream.network import ForbiddenAddress

__all__ = ["again", "failure_of_error", "failure_of_status", "retry_after_s"]

_MOST_RETRY_AFTER_S: Final = 24 * 3600.0


def failure_of_status(status: int, headers: httpx.Headers, who: str, clock: Clock) -> SourceFailure | None:
    """The failure that a status code means, or None below 400."""
    if status < 400:
        return None
    wait = retry_after_s(headers.get("retry-after"), clock)
    if status == 429:
        return RateLimited(f"{who} asks for fewer requests", retry_after_s=wait)
    if status in (401, 403):
        return Unauthorized(f"{who} refuses access ({status})")
    if status in (404, 410):
        return ConfigProblem(f"{who} has nothing at that address ({status})")
    if status in (408, 425) or status >= 500:
        return Unreachable(f"{who} has a problem ({status})", retry_after_s=wait)
    return BadAnswer(f"{who} does not accept the request ({status})")


def failure_of_error(error: httpx.TransportError, who: str) -> SourceFailure:
    """The failure behind an error on the way."""
    if _is_forbidden(error):
        return ConfigProblem("that address is not on the public internet")
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(f"{who} took too long to answer")
    if isinstance(error, httpx.RemoteProtocolError):
        return BadAnswer(f"{who} sent a broken answer")
    return Unreachable(f"{who} could not be reached")


def retry_after_s(header: str | None, clock: Clock) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3), 0 to a day; None where it says nothing."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        # Not int(): a number of a thousand digits is refused by it.
        return min(float(text), _MOST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return min(max((at - clock.now()).total_seconds(), 0.0), _MOST_RETRY_AFTER_S)


def again(failure: SourceFailure, retry_after_s: float | None = None) -> SourceFailure:
    """The same failure for one more who waits: an exception raised in many places gathers all their
    traces."""
    wait = failure.retry_after_s if retry_after_s is None else retry_after_s
    return type(failure)(failure.message, code=failure.code, retry_after_s=wait)


def _is_forbidden(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return True
        cause = cause.__cause__
    return False
