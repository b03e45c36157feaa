"""What a client asks for in the URL of its connection."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from protocol.feed import MAX_CURSOR_LENGTH
from protocol.transport import (
    DEFAULT_HEARTBEAT_MS,
    MAX_HEARTBEAT_MS,
    MAX_MIN_INTERVAL_MS,
    MIN_HEARTBEAT_MS,
)

__all__ = ["ConnectParams", "Wish", "read_query"]

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MAX_FIELDS: Final = 32
_HEARTBEAT_MS: Final = (MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS)
_INTERVAL_MS: Final = (0, MAX_MIN_INTERVAL_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectParams:
    """The choices that a connection keeps. Most connections make the same ones, and share this object."""

    own: bool = True
    delta: bool = True
    context: bool = False
    settings: bool = True
    debug: bool = False
    deflate: bool = True
    beat: bool = False
    heartbeat_s: float = DEFAULT_HEARTBEAT_MS / 1000
    min_interval_s: float = 0.0


class Wish(NamedTuple):
    """A whole query: the choices, where to resume, and which install this is."""

    params: ConnectParams
    since: str | None = None
    client: str | None = None


def read_query(query: str, *, heartbeat_s: float = DEFAULT_HEARTBEAT_MS / 1000, beat: bool = False) -> Wish:
    """Reads any query whatever: what is out of bounds is clamped, what makes no sense is as if not given.

    `beat` is the default of `beat=`: on where a page could not see a ping.
    """
    try:
        fields = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        fields = {}
    client, since = fields.get("client"), fields.get("since")
    params = _shared(
        fields.get("own") != "0",
        fields.get("delta") != "0",
        fields.get("context") == "1",
        fields.get("settings") != "0",
        fields.get("debug") == "1",
        fields.get("deflate") != "0",
        {"0": False, "1": True}.get(fields.get("beat", ""), beat),
        _seconds(fields.get("heartbeatMs"), heartbeat_s, _HEARTBEAT_MS),
        _seconds(fields.get("minIntervalMs"), 0.0, _INTERVAL_MS),
    )
    return Wish(
        params,
        since if since and len(since) <= MAX_CURSOR_LENGTH else None,
        client if client and _CLIENT_ID.fullmatch(client) else None,
    )


@lru_cache(maxsize=1024)
def _shared(
    own: bool,
    delta: bool,
    context: bool,
    settings: bool,
    debug: bool,
    deflate: bool,
    beat: bool,
    heartbeat_s: float,
    min_interval_s: float,
) -> ConnectParams:
    return ConnectParams(
        own=own,
        delta=delta,
        context=context,
        settings=settings,
        debug=debug,
        deflate=deflate,
        beat=beat,
        heartbeat_s=heartbeat_s,
        min_interval_s=min_interval_s,
    )


def _seconds(text: str | None, default_s: float, bounds_ms: tuple[int, int]) -> float:
    if text is None or len(text) > 12 or not re.fullmatch(r"-?[0-9]+", text):
        return default_s
    low, high = bounds_ms
    return min(max(int(text), low), high) / 1000
