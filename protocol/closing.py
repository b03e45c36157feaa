"""The codes that end a connection, and what a client does about each: as pure as a table.

Randomness stays outside: advice names the span that a delay is to be drawn from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

__all__ = [
    "CLOSE_CODES",
    "REFUSALS",
    "STEADY_S",
    "Advice",
    "CloseCode",
    "CloseKind",
    "NextStep",
    "advice",
    "backoff_cap_s",
    "retry_in_ms",
    "retry_reason",
]

# A connection that lived this long proves that the way is good again: the backoff starts anew.
STEADY_S: Final = 30.0

_FIRST_BACKOFF_S: Final = 1.0
_MOST_BACKOFF_S: Final = 30.0
_OVERLOAD_WAIT_S: Final = 30.0
# No promise of a server is waited for longer than this: it may have been wrong by a few digits.
_MOST_RETRY_MS: Final = 15 * 60_000
_RETRY: Final = re.compile(r"(?:^|[^A-Za-z])retryInMs=([0-9]{1,9})")


class CloseCode(IntEnum):
    """Why a connection ended (RFC 6455, section 7.4, and our own from 4400)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_TEXT = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    OVERLOAD = 1013
    MISUSE = 4400
    UNAUTHENTICATED = 4401
    REVOKED = 4403
    SILENT = 4408
    REPLACED = 4409
    LIMIT = 4429


class NextStep(Enum):
    """What a client does after its connection has ended."""

    RECONNECT = "reconnect"
    NEW_TOKEN = "newToken"  # noqa: S105 -- not a secret: ask for a new token, then reconnect
    SIGN_IN = "signIn"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Advice:
    """The next step, after a delay drawn evenly from `from_s` to `to_s`.

    `resend` is false where the connection ended over a message of ours: it must not be sent again.
    """

    step: NextStep
    from_s: float = 0.0
    to_s: float = 0.0
    resend: bool = True

    def delay_s(self, draw: float) -> float:
        """The delay for a `draw` from 0 to 1."""
        return self.from_s + (self.to_s - self.from_s) * draw


@dataclass(frozen=True, slots=True)
class CloseKind:
    """A close code in words, for people."""

    code: CloseCode
    means: str
    client_does: str


_BACKOFF: Final = "reconnect with backoff: full jitter, 1 s doubling to 30 s, reset after 30 s connected"
_AT_ONCE: Final = "reconnect at once, with a jitter of 0 to 1 s"
_NOT_AGAIN: Final = "reconnect with backoff, and don't send that message again"
_WAIT: Final = "wait the `retryInMs` of the reason, else 30 s; then reconnect"
_STOP: Final = "stop"

CLOSE_CODES: Final[Mapping[CloseCode, CloseKind]] = {
    code: CloseKind(code, means, client_does)
    for code, means, client_does in (
        (CloseCode.NORMAL, "closed without a fault", _BACKOFF),
        (CloseCode.GOING_AWAY, "the server drains", _AT_ONCE),
        (CloseCode.PROTOCOL_ERROR, "frames against the WebSocket protocol", _BACKOFF),
        (CloseCode.NO_STATUS, "closed without saying why", _BACKOFF),
        (CloseCode.ABNORMAL, "the link broke", _BACKOFF),
        (CloseCode.INVALID_TEXT, "text that is not UTF-8", _NOT_AGAIN),
        (CloseCode.TOO_BIG, "a message over the bound", _NOT_AGAIN),
        (CloseCode.INTERNAL, "a fault of the server", _BACKOFF),
        (CloseCode.RESTART, "the server restarts", _BACKOFF),
        (CloseCode.OVERLOAD, "overload, or not ready", _WAIT),
        (CloseCode.MISUSE, "broke the protocol over and over", _STOP),
        (
            CloseCode.UNAUTHENTICATED,
            "token missing, expired or wrong",
            "get a new token and reconnect; after a second one in a row, sign in again",
        ),
        (CloseCode.REVOKED, "access was revoked", _STOP),
        (CloseCode.SILENT, "heartbeat missed, or background over", _AT_ONCE),
        (CloseCode.REPLACED, "a newer connection of the same client took over", _STOP),
        (CloseCode.LIMIT, "a limit was reached", _WAIT),
    )
}

# A refused upgrade, where the client can see its HTTP status, is the same thing said earlier.
REFUSALS: Final[Mapping[int, CloseCode]] = {
    400: CloseCode.MISUSE,
    401: CloseCode.UNAUTHENTICATED,
    403: CloseCode.REVOKED,
    429: CloseCode.LIMIT,
    503: CloseCode.OVERLOAD,
}


def advice(code: int, reason: str = "", *, failures: int = 0, refusals: int = 0) -> Advice:
    """What to do after an end with `code` and `reason`; codes nobody knows are faults of the network.

    `failures` counts the ends in a row before this one without a steady connection between them
    (`STEADY_S`), `refusals` the 4401 in a row before this one.
    """
    match code:
        case CloseCode.GOING_AWAY | CloseCode.SILENT:
            return Advice(NextStep.RECONNECT, 0.0, 1.0)
        case CloseCode.OVERLOAD | CloseCode.LIMIT:
            told_ms = retry_in_ms(reason)
            wait_s = _OVERLOAD_WAIT_S if told_ms is None else told_ms / 1000
            return Advice(NextStep.RECONNECT, wait_s, wait_s)
        case CloseCode.UNAUTHENTICATED:
            return Advice(NextStep.SIGN_IN if refusals else NextStep.NEW_TOKEN)
        case CloseCode.MISUSE | CloseCode.REVOKED | CloseCode.REPLACED:
            return Advice(NextStep.STOP)
        case _:
            resend = code not in (CloseCode.INVALID_TEXT, CloseCode.TOO_BIG)
            return Advice(NextStep.RECONNECT, 0.0, backoff_cap_s(failures), resend)


def backoff_cap_s(failures: int) -> float:
    """The longest wait after so many failures in a row: 1 s, doubling to 30 s."""
    return min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 10))


def retry_in_ms(reason: str) -> int | None:
    """What a close reason says about when to come back; at most a quarter of an hour is believed."""
    told = _RETRY.search(reason)
    return None if told is None else min(_MOST_RETRY_MS, int(told[1]))


def retry_reason(milliseconds: int) -> str:
    """The close reason that says when to come back."""
    return f"retryInMs={milliseconds}"
