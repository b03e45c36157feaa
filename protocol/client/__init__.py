"""The Python client: one user's feed, always as new as the link allows, and every method as a function.

    async with connect("ws://127.0.0.1:8080", token) as feed:
        await feed.patch_source("freya.clock", enabled=True)
        async for state in feed:
            print([item.id for item in state.items])

It reconnects and resumes by itself, as the protocol's table of close codes says.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from random import random
from typing import Literal

import anyio

from protocol.client.failures import (
    CallTimedOut,
    ClientError,
    ConnectionLost,
    FeedClosed,
    MessageTooBig,
    NotConnected,
    SignInRequired,
    Stopped,
)
from protocol.client.live import LiveFeed, Status
from protocol.client.options import Options, Token, utc_now
from protocol.client.view import FeedView
from protocol.closing import CloseCode
from protocol.frozen import JsonObject
from protocol.reconnect import End

__all__ = [
    "CallTimedOut",
    "ClientError",
    "ConnectionLost",
    "End",
    "FeedClosed",
    "FeedView",
    "LiveFeed",
    "MessageTooBig",
    "NotConnected",
    "SignInRequired",
    "Status",
    "Stopped",
    "Token",
    "connect",
]


@asynccontextmanager
async def connect(
    url: str,
    token: Token,
    *,
    own: bool = True,
    delta: bool = True,
    context: bool = False,
    settings: bool = True,
    debug: bool = False,
    deflate: bool = True,
    min_interval_ms: int | None = None,
    heartbeat_ms: int | None = None,
    client: str | None = None,
    headers: Mapping[str, str] | None = None,
    token_as: Literal["header", "subprotocol"] = "header",  # noqa: S107 -- where it goes, not what it is
    tls: ssl.SSLContext | None = None,
    call_timeout_s: float = 15.0,
    on_notification: Callable[[str, JsonObject], None] | None = None,
    draw: Callable[[], float] = random,
    now: Callable[[], datetime] = utc_now,
) -> AsyncGenerator[LiveFeed]:
    """Follows the token's user for as long as the context is open.

    It opens at once, also where the server is away: `call` waits for a connection, iteration for a state.
    `token` is a JWT or an async function that gets one; only with a function can the client renew it. What
    leaves the body leaves as it is; leaving ends the connection and fails what still waits with Stopped.
    Raises ValueError for an address, a token or an option that can be none.

    - `own`: follow one's own feed (a publisher, or who only watches others, needs none)
    - `delta`, `context`, `settings`, `debug`, `deflate`, `min_interval_ms`, `heartbeat_ms`, `client`: what
      the server is asked for, by the protocol's URL parameters of these names
    - `headers`, `token_as`, `tls`: for the handshake
    - `call_timeout_s`: how long a request may take, connecting included
    - `on_notification`: is given every notification, after the client itself; must not wait
    - `draw` (numbers from 0 to 1, for the jitter) and `now` (UTC): for tests
    """
    options = Options(
        own=own,
        delta=delta,
        context=context,
        settings=settings,
        debug=debug,
        deflate=deflate,
        min_interval_ms=min_interval_ms,
        heartbeat_ms=heartbeat_ms,
        client=client,
        headers=dict(headers or {}),
        token_as=token_as,
        call_timeout_s=call_timeout_s,
        on_notification=on_notification,
        draw=draw,
        now=now,
    )
    live = LiveFeed(url, token, options, tls)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live.run)
        try:
            yield live
        except Exception as raised:
            # Kept out of the task group, which would wrap it: callers catch what they raised themselves.
            failure = raised
        live.stop(Stopped(CloseCode.NORMAL, "closed here"))
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
