"""What a client may ask for when it connects, and the address that says so."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from protocol.frozen import JsonObject
from protocol.transport import MAX_HEARTBEAT_MS, MIN_HEARTBEAT_MS, PATH

__all__ = ["Options", "Token", "feed_url", "utc_now"]

Token: TypeAlias = str | Callable[[], Awaitable[str]]

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `connect`, by the same names."""

    own: bool
    delta: bool
    context: bool
    settings: bool
    debug: bool
    deflate: bool
    min_interval_ms: int | None
    heartbeat_ms: int | None
    client: str | None
    headers: Mapping[str, str]
    token_as: Literal["header", "subprotocol"]
    call_timeout_s: float
    on_notification: Callable[[str, JsonObject], None] | None
    draw: Callable[[], float]
    now: Callable[[], datetime]

    def __post_init__(self) -> None:
        if self.heartbeat_ms is not None and not MIN_HEARTBEAT_MS <= self.heartbeat_ms <= MAX_HEARTBEAT_MS:
            # The server would clamp it, and the two ends would then wait by different clocks.
            raise ValueError(f"heartbeat_ms lies between {MIN_HEARTBEAT_MS} and {MAX_HEARTBEAT_MS}")
        if self.client is not None and _CLIENT_ID.fullmatch(self.client) is None:
            raise ValueError("client is up to 64 of A-Z a-z 0-9 _ . -")


def feed_url(url: str, options: Options, since: str | None) -> str:
    """The address to connect to: the endpoint's path where none is given, and the options as its query.

    Raises ValueError for an address that is none of ws:, wss:, http:, https:.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.port == 0:  # `port` raises for what is none
        raise ValueError(f"not the address of a feed server: {url!r} (like ws://127.0.0.1:8080)")
    query = {**dict(parse_qsl(parts.query)), **_query(options, since)}
    path = parts.path if parts.path not in ("", "/") else PATH
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))


def _query(options: Options, since: str | None) -> dict[str, str]:
    # The beat is how a dead link is noticed: pings are answered below us, where nobody sees them.
    query = {"beat": "1"}
    if since is not None and options.own:
        query["since"] = since
    for name, wanted, usual in (
        ("own", options.own, True),
        ("delta", options.delta, True),
        ("settings", options.settings, True),
        ("deflate", options.deflate, True),
        ("context", options.context, False),
        ("debug", options.debug, False),
    ):
        if wanted != usual:
            query[name] = str(int(wanted))
    for name, value in (
        ("minIntervalMs", options.min_interval_ms),
        ("heartbeatMs", options.heartbeat_ms),
        ("client", options.client),
    ):
        if value is not None:
            query[name] = str(value)
    return query
