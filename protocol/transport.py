"""The fixed names and numbers of the transport, which both ends must agree on."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DEFAULT_HEARTBEAT_MS",
    "HEARTBEAT_GRACE_MS",
    "MAX_FRAME_BYTES",
    "MAX_HEARTBEAT_MS",
    "MAX_MESSAGE_BYTES",
    "MAX_MIN_INTERVAL_MS",
    "MAX_TOKEN_BYTES",
    "MIN_HEARTBEAT_MS",
    "PATH",
    "PROTOCOL_VERSION",
    "SUBPROTOCOL",
    "TOKEN_SUBPROTOCOL_PREFIX",
]

PROTOCOL_VERSION: Final = 1
SUBPROTOCOL: Final = "freya.v1"
# For clients that cannot set headers: the token as a second offered subprotocol.
TOKEN_SUBPROTOCOL_PREFIX: Final = "bearer."  # noqa: S105 -- what stands before a token, not one
PATH: Final = "/v1/feed"

# From client to server; from server to client, envelope included (common clients refuse 1 MiB).
MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_FRAME_BYTES: Final = 768 * 1024
MAX_TOKEN_BYTES: Final = 6 * 1024

DEFAULT_HEARTBEAT_MS: Final = 25_000
MIN_HEARTBEAT_MS: Final = 5_000
MAX_HEARTBEAT_MS: Final = 300_000
# So long after a missed heartbeat, either end takes the other for dead.
HEARTBEAT_GRACE_MS: Final = 10_000

MAX_MIN_INTERVAL_MS: Final = 60_000
