"""One socket of the driver: a WebSocket client that costs the driver as little as the server costs itself.

Written for load alone: it believes the server's 101, and takes only what the protocol allows the server to
send (whole text frames, pings, a close). Anything else is a fault, and is counted as one.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Protocol, cast

from protocol.transport import PATH, SUBPROTOCOL

__all__ = ["Link", "Receiver", "request_head", "text_frame"]

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_HEAD_END = b"\r\n\r\n"
# A mask of zeros is a mask (RFC 6455, section 5.3), and costs nothing.
_MASK = b"\x00\x00\x00\x00"
_GOODBYE = bytes((_CLOSE, 0x82)) + _MASK + (1000).to_bytes(2)


class Receiver(Protocol):
    """Whoever wants what a socket brings."""

    def opened(self) -> None:
        """The server has let us in."""
        ...

    def received(self, payload: bytes) -> None:
        """A text message."""
        ...

    def closed(self, reason: str) -> None:
        """The socket is gone: an HTTP status, a close code, or how it broke. Called once."""
        ...


def request_head(host: str, token: str, query: str) -> bytes:
    """An upgrade request."""
    key = base64.b64encode(os.urandom(16)).decode()
    target = f"{PATH}?{query}" if query else PATH
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        f"Authorization: Bearer {token}",
    ]
    return "\r\n".join(lines).encode() + _HEAD_END


def text_frame(payload: bytes) -> bytes:
    """A message from a client, whole."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, 0x80 | size)) + _MASK + payload
    return bytes((_TEXT, 0x80 | 126, size >> 8, size & 0xFF)) + _MASK + payload


class Link(asyncio.Protocol):
    """One socket, from its connect to its end."""

    __slots__ = ("_buffer", "_head", "_open", "_over", "_receiver", "transport")

    def __init__(self, receiver: Receiver, head: bytes) -> None:
        self._receiver = receiver
        self._head = head
        self._buffer = b""
        self._open = False
        self._over = False
        self.transport: asyncio.Transport | None = None

    def send(self, payload: bytes) -> None:
        """Sends a text message, where the socket is still there."""
        if self.transport is not None and not self._over:
            self.transport.write(text_frame(payload))

    def drop(self) -> None:
        """Goes away without a word. The receiver hears nothing more."""
        self._over = True
        if self.transport is not None:
            self.transport.abort()

    def say_goodbye(self) -> None:
        """Sends a close frame; what the server answers comes as `closed`."""
        if self.transport is not None and not self._over:
            self.transport.write(_GOODBYE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, though they are the same in all we use.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._head)
        self._head = b""

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if not self._open:
            end = data.find(_HEAD_END)
            if end < 0:
                self._buffer = data
                return
            status = data[9:12]
            if status != b"101":
                self._end(f"HTTP {status.decode(errors='replace')}")
                return
            self._open = True
            self._receiver.opened()
            data = data[end + 4 :]
        if data:
            self._frames(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("broken" if exc is not None else "ended")

    def _frames(self, data: bytes) -> None:
        at, size = 0, len(data)
        received: Callable[[bytes], None] = self._receiver.received
        while not self._over:
            if size - at < 2:
                break
            length, begin = data[at + 1], at + 2
            if length > 125:
                width = 2 if length == 126 else 8
                begin += width
                if size < begin:
                    break
                length = int.from_bytes(data[begin - width : begin])
            end = begin + length
            if size < end:
                break
            head = data[at]
            if head == _TEXT:
                received(data[begin:end])
            else:
                self._control(head, data[begin:end])
            at = end
        if at < size and not self._over:
            self._buffer = data[at:]

    def _control(self, head: int, payload: bytes) -> None:
        if head == _PING:
            assert self.transport is not None
            self.transport.write(bytes((_PONG, 0x80 | len(payload))) + _MASK + payload)
        elif head == _CLOSE:
            self._end(str(int.from_bytes(payload[:2])) if len(payload) > 1 else "1005")
        elif head != _PONG:
            self._end(f"frame {head:#x}")

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over = True
            if self.transport is not None:
                self.transport.abort()
            self._receiver.closed(reason)
