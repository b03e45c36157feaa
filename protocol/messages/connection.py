"""`connection.*` and `server.*`: the life of one connection."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from protocol.messages.base import (
    CursorText,
    FeedName,
    Method,
    NoParams,
    Nothing,
    Notice,
    Params,
    Time,
    WireModel,
)
from protocol.messages.objects import Limits
from protocol.transport import MAX_TOKEN_BYTES

__all__ = [
    "DEFAULT_KEEP_MS",
    "METHODS",
    "NOTIFICATIONS",
    "ConnectionBackgroundParams",
    "ConnectionBeat",
    "ConnectionExpiring",
    "ConnectionInfo",
    "ConnectionPingResult",
    "ConnectionRenewParams",
    "ConnectionRenewResult",
    "ConnectionWelcome",
    "Lag",
    "Resume",
    "ServerDraining",
    "ServerStatus",
    "SubscriptionInfo",
]

DEFAULT_KEEP_MS: Final = 10 * 60_000
_MOST_KEEP_MS: Final = 30 * 60_000


class ConnectionRenewParams(Params):
    """A token of the same user; its scopes replace the old one's."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TOKEN_BYTES)]


class ConnectionRenewResult(WireModel):
    """The new token's end."""

    expires_at: Time


class ConnectionBackgroundParams(Params):
    """How long the server is to keep the silent connection."""

    keep_ms: Annotated[int, Field(ge=0, le=_MOST_KEEP_MS)] = DEFAULT_KEEP_MS


class ConnectionPingResult(WireModel):
    """The server's time."""

    at: Time


class SubscriptionInfo(WireModel):
    """One followed feed: what was sent last, and what the client said it shows."""

    feed: FeedName
    cursor: CursorText | None = None
    acked: CursorText | None = None
    min_interval_ms: int = 0


class Lag(WireModel):
    """How far behind the connection is: the age of the oldest change not yet sent, and what waits."""

    behind_ms: int
    buffered_bytes: int


class Resume(WireModel):
    """How the connection began: with `snapshot`, with a `delta` from its cursor, or with the same content."""

    outcome: str
    at: Time


class ConnectionInfo(WireModel):
    """The connection as the server sees it."""

    user: FeedName
    scopes: list[str]
    replica: str
    server: str
    connected_at: Time
    subscriptions: list[SubscriptionInfo]
    lag: Lag
    last_resume: Resume | None = None


class ConnectionWelcome(WireModel):
    """The first message of a connection."""

    server: str
    protocol: int
    schema_digest: str
    replica: str
    connection: str
    user: FeedName
    now: Time
    expires_at: Time
    heartbeat_ms: int
    ack_every_ms: int | None = None
    limits: Limits


class ConnectionBeat(WireModel):
    """A heartbeat that a page can see; `degraded` names what the server is without."""

    at: Time
    degraded: list[str] | None = None


class ConnectionExpiring(WireModel):
    """The token ends soon."""

    in_ms: int


class ServerDraining(WireModel):
    """The server is about to go: it closes with 1001 after that time; then reconnect at once."""

    reconnect_in_ms: int


class ServerStatus(WireModel):
    """What the server is without, and since when."""

    degraded: list[str]
    since: Time | None = None


METHODS = (
    Method(
        "connection.renew",
        ConnectionRenewParams,
        ConnectionRenewResult,
        "Goes on with a new token.",
        scope=None,
    ),
    Method("connection.info", NoParams, ConnectionInfo, "The connection as the server sees it.", scope=None),
    Method(
        "connection.ping",
        NoParams,
        ConnectionPingResult,
        "Is the link alive? No answer in 3 s after a wake means no.",
        scope=None,
    ),
    Method(
        "connection.background",
        ConnectionBackgroundParams,
        Nothing,
        "Pushes and pings stop; requests still work.",
        scope=None,
    ),
    Method(
        "connection.foreground",
        NoParams,
        Nothing,
        "Pushes go on, with one delta from what was sent last.",
        scope=None,
    ),
)

NOTIFICATIONS = (
    Notice("connection.welcome", ConnectionWelcome, "The first message of a connection."),
    Notice("connection.beat", ConnectionBeat, "A heartbeat in plain sight, for those who asked for it."),
    Notice("connection.expiring", ConnectionExpiring, "The token ends soon: call `connection.renew`."),
    Notice(
        "server.draining", ServerDraining, "The server is about to go; stay until it closes, then reconnect."
    ),
    Notice("server.status", ServerStatus, "What the server is without.", scope="admin"),
)
