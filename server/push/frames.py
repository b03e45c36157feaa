"""What goes out: server frames, built whole and shared.

Server frames are not masked (RFC 6455, section 5.1), so one message is the same bytes for every socket
that gets it. With no context takeover (RFC 7692, section 7.1.1.1) the same holds for a compressed one.
"""

from __future__ import annotations

import zlib
from typing import Final

__all__ = ["DEFLATE_WINDOW_BITS", "PING_FRAME", "Message", "pong_frame", "text_frame"]

_TEXT: Final = 0x81
_TEXT_DEFLATED: Final = 0xC1
_PONG: Final = 0x8A

PING_FRAME: Final = b"\x89\x00"

# One window for all clients, so that a compressed frame fits them all; a client that asks for a smaller one
# gets no compression. 4 KiB is what a feed's repetitions need.
DEFLATE_WINDOW_BITS: Final = 12
_DEFLATE_LEVEL: Final = 1
_DEFLATE_MEMORY: Final = 5
# Below this the 20 to 30 us that compressing costs save less than a packet's headers.
_DEFLATE_FROM_BYTES: Final = 300
_SYNC_TAIL: Final = 4


def text_frame(payload: bytes) -> bytes:
    """One whole, unfragmented text message."""
    return _frame(_TEXT, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping of that payload (at most 125 bytes)."""
    return _frame(_PONG, payload)


class Message:
    """One message for any number of sockets: framed, and compressed, at most once."""

    __slots__ = ("_deflated", "payload", "plain")

    def __init__(self, payload: bytes) -> None:
        self.payload: Final = payload
        self.plain: Final = text_frame(payload)
        self._deflated: bytes | None = None

    def frame(self, *, deflate: bool) -> bytes:
        """The frame for a socket that negotiated compression, or did not."""
        if not deflate:
            return self.plain
        frame = self._deflated
        if frame is None:
            frame = self._deflated = self._deflate()
        return frame

    def _deflate(self) -> bytes:
        if len(self.payload) < _DEFLATE_FROM_BYTES:
            return self.plain
        encoder = zlib.compressobj(
            _DEFLATE_LEVEL, zlib.DEFLATED, -DEFLATE_WINDOW_BITS, _DEFLATE_MEMORY, zlib.Z_DEFAULT_STRATEGY
        )
        # RFC 7692, section 7.2.1: the four bytes that end a sync flush are left out.
        data = (encoder.compress(self.payload) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-_SYNC_TAIL]
        return _frame(_TEXT_DEFLATED, data) if len(data) < len(self.payload) else self.plain


def _frame(head: int, payload: bytes) -> bytes:
    """RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        return bytes((head, size)) + payload
    if size < 65536:
        return bytes((head, 126, size >> 8, size & 0xFF)) + payload
    return bytes((head, 127)) + size.to_bytes(8, "big") + payload
