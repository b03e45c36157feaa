"""Bodies decompressed within a bound: a few kilobytes on the wire can be gigabytes in memory."""

from __future__ import annotations

import zlib

__all__ = ["BodyDecoder", "BodyTooLarge", "UndecodableBody"]

_AUTO = zlib.MAX_WBITS | 32  # gzip or zlib, told apart by their headers


class BodyTooLarge(Exception):
    """The body is larger than its limit."""


class UndecodableBody(Exception):
    """The body is not what its Content-Encoding says."""


class BodyDecoder:
    """Collects a body up to `max_bytes` after decompression, never inflating past the limit.

    `content_encoding` may be empty, `identity`, `gzip`, `x-gzip` or `deflate`; several or others raise
    UndecodableBody (we never ask for them).
    """

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        self._left = max_bytes
        self._parts: list[bytes] = []
        encoding = content_encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise UndecodableBody
        self._inflate = None if encoding in ("", "identity") else zlib.decompressobj(_AUTO)
        self._raw_deflate = encoding == "deflate"

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the wire. Raises BodyTooLarge, UndecodableBody."""
        if self._inflate is None:
            self._take(chunk)
            return
        # One byte more than is left shows that the limit is passed, and is all that is ever inflated.
        try:
            self._take(self._inflate.decompress(chunk, self._left + 1))
        except zlib.error:
            self._begin_raw(chunk)
        if self._inflate.unconsumed_tail:
            raise BodyTooLarge

    def finish(self) -> bytes:
        """The whole body. Raises UndecodableBody where it was cut off."""
        if self._inflate is not None and not self._inflate.eof and self._parts:
            raise UndecodableBody
        return b"".join(self._parts)

    def _begin_raw(self, chunk: bytes) -> None:
        # Some servers send raw deflate as "deflate" (RFC 9110 section 8.4.1.2 notes it).
        if not self._raw_deflate or self._parts:
            raise UndecodableBody
        self._raw_deflate = False
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            self._take(self._inflate.decompress(chunk, self._left + 1))
        except zlib.error:
            raise UndecodableBody from None

    def _take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise BodyTooLarge
        if data:
            self._parts.append(data)
