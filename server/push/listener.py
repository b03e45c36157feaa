"""A socket before it is a connection: PROXY header, request head, then an upgrade, an answer, or a refusal.

Slow and broken clients cost a bounded buffer and a bounded time here, and no task.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final, cast

from websockets.http11 import Request

from protocol.transport import PATH
from server.http.types import HttpRequest, ListenerKind
from server.push.door import Door, Upgrade
from server.push.handshake import is_origin_allowed, read_offer
from server.push.http1 import (
    HEAD_END,
    BadHead,
    plain_headers,
    problem_response,
    read_head,
    response_head,
    split_target,
    wants_keep_alive,
)
from server.push.params import read_query
from server.push.proxy import ProxyProblem, is_trusted, read_proxy_header
from server.push.upgrading import Unusual, Upgrading, read_ordinary

__all__ = ["Greeting"]

# What a client that was refused may still send while it takes in the answer.
_MAX_LATE_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0


class Greeting(asyncio.Protocol):
    """One accepted socket."""

    __slots__ = (
        "_address",
        "_buffer",
        "_busy",
        "_counts_address",
        "_deadline",
        "_door",
        "_greeted",
        "_kind",
        "_late_bytes",
        "_left",
        "_over",
        "_proxied",
        "_requests_left",
        "_transport",
        "bucket",
    )

    def __init__(self, door: Door, kind: ListenerKind, *, counts_address: bool) -> None:
        self.bucket = -1
        self._door = door
        self._kind = kind
        self._counts_address = counts_address
        self._transport: asyncio.Transport
        self._buffer = b""
        self._greeted = False
        self._address: str | None = None
        self._proxied = False
        self._busy = False
        self._over = False
        self._late_bytes = 0
        self._left = 0
        self._requests_left = door.hub.options.max_requests_per_keep_alive
        self._deadline = 0.0

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        # uvloop's transports are no subclass of asyncio's, though they are the same in all we use.
        self._transport = cast("asyncio.Transport", transport)
        options = self._door.hub.options
        if not self._door.arrived(self):
            self._over = True
            self._transport.abort()
            return
        self._proxied = bool(options.proxy_networks) and is_trusted(self._peer(), options.proxy_networks)
        self._wait(options.first_byte_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Part of a request, or all of it, or more than one."""
        if self._over:
            self._late_bytes += len(data)
            if self._late_bytes > _MAX_LATE_BYTES:
                self._transport.abort()
            return
        if not self._buffer and not self._busy:
            self._wait(self._door.hub.options.handshake_timeout_s)
        self._greeted = True
        self._buffer += data
        if not self._busy:
            self._read_on()

    def eof_received(self) -> bool:
        """The client is done; so is a request that is being answered."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._over = True
        self._door.hub.sweeper.forget(self)
        self._door.departed(self)

    def sweep(self, now: float) -> float | None:
        """The deadline. Answers that are being made have one of their own."""
        if now < self._deadline:
            return self._deadline
        if self._busy:
            return now + self._door.hub.options.request_timeout_s
        left = self._transport.get_write_buffer_size()
        if left and (self._left == 0 or left < self._left):
            # Slowly, but the client takes its answer.
            self._left = left
            return now + _LINGER_S
        if not self._over and (self._buffer or not self._greeted):
            self._door.hub.counters.limit("handshake_s" if self._buffer else "first_byte_s")
        if self._over or not self._buffer:
            self._transport.abort()
        else:
            self.refuse(problem_response(408, "The request took too long."))
            return self._deadline
        return None

    # Requests

    def _read_on(self) -> None:
        try:
            if self._proxied and not self._read_proxy_header():
                return
            end = self._buffer.find(HEAD_END)
            maximum = self._door.hub.options.max_head_bytes
            if end > maximum or (end < 0 and len(self._buffer) > maximum):
                raise BadHead(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large."
                )
            if end >= 0:
                head = self._buffer[: end + len(HEAD_END)]
                self._buffer = self._buffer[len(head) :]
                self._request(head)
        except BadHead as wrong:
            self.refuse(problem_response(wrong.status, wrong.text))
        except ProxyProblem:
            self._over = True
            self._transport.abort()

    def _read_proxy_header(self) -> bool:
        """Takes the header off the buffer; False while it is not whole."""
        if not self._buffer:
            return False
        header = read_proxy_header(self._buffer)
        if header is None:
            return False
        self._buffer = self._buffer[header.size :]
        self._proxied = False
        if header.source is not None:
            self._address = header.source
            self._counts_address = True
        return True

    def _request(self, head: bytes) -> None:
        ordinary = read_ordinary(head)
        if ordinary is not None:
            path, query = split_target(ordinary.target)
            if path == PATH:
                self._upgrade(ordinary, query)
                return
        protocol, request = read_head(head)
        path, query = split_target(request.path)
        headers = plain_headers(request)
        if path == PATH:
            self._upgrade(Unusual(protocol, request, headers), query)
        elif request.method not in {"GET", "HEAD"}:
            self.refuse(problem_response(405, "GET and HEAD only.", {"Allow": "GET, HEAD"}))
        else:
            self._answer(request, path, query, headers)

    def _upgrade(self, asked: Upgrading, query: str) -> None:
        options, headers = self._door.hub.options, asked.headers
        offer = read_offer(headers)
        by_page = offer is not None and offer.by_subprotocol
        wish = read_query(query, heartbeat_s=options.heartbeat_s, beat=by_page)
        if not is_origin_allowed(headers.get("origin"), headers.get("host", ""), options.origins):
            self.refuse(problem_response(403, "This origin may not connect."))
            return
        answer = asked.answer(deflate=options.deflate and wish.params.deflate)
        if not answer.accepted:
            self.refuse(answer.response)
            return
        early, self._buffer = self._buffer, b""
        self._busy = True
        address = self._peer() if self._counts_address else None
        upgrade = Upgrade(self._transport, offer, wish, address, answer.response, answer.deflate, early, self)
        self._door.upgrade(upgrade)

    def _answer(self, request: Request, path: str, query: str, headers: dict[str, str]) -> None:
        self._requests_left -= 1
        keep_alive = wants_keep_alive(request, headers) and self._requests_left > 0
        asked = HttpRequest(
            method=request.method,
            path=path,
            query=query,
            headers=headers,
            peer=self._peer(),
            listener=self._kind,
        )
        self._busy = True
        self._transport.pause_reading()

        async def answer() -> None:
            response = await self._door.answer(asked)
            head = response_head(response.status, response.headers, len(response.body), keep_alive=keep_alive)
            self._answered(head if asked.method == "HEAD" else head + response.body, keep_alive)

        self._door.start(answer)

    def _answered(self, answer: bytes, keep_alive: bool) -> None:
        self._busy = False
        if self._over:
            return
        self._door.hub.counters.http_requests += 1
        if not keep_alive:
            self.refuse(answer)
            return
        self._left = 0
        self._transport.write(answer)
        self._transport.resume_reading()
        self._wait(self._door.hub.options.keep_alive_s)
        if self._buffer:
            self._read_on()

    def _peer(self) -> str:
        """The client's address. Asked for only where it matters: the transport keeps an object for it."""
        if self._address is None:
            match self._transport.get_extra_info("peername"):
                case (str(address), *_):
                    self._address = address
                case _:
                    self._address = ""
        return self._address

    # The end

    def leave(self) -> None:
        """The socket has become a connection's."""
        self._over = True
        self._door.hub.sweeper.forget(self)
        self._door.departed(self)

    def abort(self) -> None:
        """Drops the socket."""
        self._over = True
        self._transport.abort()

    def refuse(self, answer: bytes) -> None:
        """The last answer on this socket. The client gets a moment to take it in: closing over what it still
        sends would reset the connection, and the answer with it."""
        self._busy = False
        if self._over:
            return
        self._over = True
        self._buffer = b""
        self._left = 0
        self._transport.write(answer)
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
        self._wait(_LINGER_S)

    def _wait(self, seconds: float) -> None:
        sweeper = self._door.hub.sweeper
        self._deadline = self._door.hub.clock.monotonic() + seconds
        sweeper.forget(self)
        sweeper.watch(self, self._deadline)
