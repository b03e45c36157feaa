"""Bodies decompressed within a bound: a few kilobytes on the wire can be gigabytes in memory.

Nothing here waits. A body is inflated in steps, so that whoever reads it can let others run in between.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import Final

__all__ = ["STEP_BYTES", "BodyDecoder", "BodyTooLarge", "UndecodableBody"]

STEP_BYTES: Final = 256 * 1024
"""Inflated in one step: well under a millisecond."""


class BodyTooLarge(Exception):
    """The body is larger than its limit."""


class UndecodableBody(Exception):
    """The body is not what its Content-Encoding says, or was cut off."""


class _Coding(Enum):
    IDENTITY = "identity"
    GZIP = "gzip"
    DEFLATE = "deflate"


_CODINGS: Final = {
    "": _Coding.IDENTITY,
    "identity": _Coding.IDENTITY,
    "gzip": _Coding.GZIP,
    "x-gzip": _Coding.GZIP,
    "deflate": _Coding.DEFLATE,
}


class BodyDecoder:
    """Collects a body of at most `max_bytes`, on the wire as after decompression.

        decoder.feed(chunk)
        while decoder.step():
            await checkpoint()

    `content_encoding` may be empty, `identity`, `gzip`, `x-gzip` or `deflate`; several or others raise
    UndecodableBody (we never ask for them).
    """

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        coding = _CODINGS.get(content_encoding.strip().lower())
        if coding is None:
            raise UndecodableBody
        self._coding = coding
        self._wire_left = max_bytes
        self._left = max_bytes
        self._parts: list[bytes] = []
        self._inflate: zlib._Decompress | None = None  # pyright: ignore[reportPrivateUsage] -- zlib names its type nowhere else
        self._input = b""
        self._more = False  # zlib holds output back for which there was no room in the last step

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the wire. Raises BodyTooLarge."""
        self._wire_left -= len(chunk)
        if self._wire_left < 0:
            raise BodyTooLarge
        if self._coding is _Coding.IDENTITY:
            self._parts.append(chunk)
        else:
            self._input += chunk

    def step(self) -> bool:
        """Inflates some of what was fed; returns whether there is more to do. Raises BodyTooLarge,
        UndecodableBody."""
        if not self._input and not self._more:
            return False
        inflate = self._current()
        if inflate is None:
            return False
        # One byte more than is left shows that the limit is passed, and is all that is ever inflated.
        room = min(STEP_BYTES, self._left + 1)
        try:
            data = inflate.decompress(self._input, room)
        except zlib.error:
            raise UndecodableBody from None
        self._left -= len(data)
        if self._left < 0:
            raise BodyTooLarge
        self._parts.append(data)
        self._more = len(data) == room
        self._input = inflate.unconsumed_tail
        if inflate.eof:
            self._more = False
            self._input = inflate.unused_data
        return bool(self._input) or self._more

    def finish(self) -> bytes:
        """The whole body. Raises UndecodableBody where it was cut off."""
        if self._input or self._more or (self._inflate is not None and not self._inflate.eof):
            raise UndecodableBody
        return b"".join(self._parts)

    def _current(self) -> zlib._Decompress | None:  # pyright: ignore[reportPrivateUsage] -- as above
        """The decompressor for the next bytes; None while there are too few of them to tell which."""
        if self._inflate is not None and self._inflate.eof:
            # Zeros may pad the last block; anything else is one more member of a gzip (RFC 1952 section 2.2).
            self._input = self._input.lstrip(b"\0")
            if self._input and self._coding is not _Coding.GZIP:
                raise UndecodableBody
        if self._inflate is None or self._inflate.eof:
            if len(self._input) < 2:
                return None
            self._inflate = zlib.decompressobj(self._window())
        return self._inflate

    def _window(self) -> int:
        if self._coding is _Coding.GZIP:
            return zlib.MAX_WBITS | 16
        # "deflate" is zlib's format; some send it without the header (RFC 9110 section 8.4.1.2 notes it).
        has_header = self._input[0] & 0x0F == 8 and int.from_bytes(self._input[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
