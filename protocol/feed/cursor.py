"""The name of one revision of one feed, as clients keep it and hand it back."""

from __future__ import annotations

import binascii
import struct
from binascii import b2a_base64
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_CURSOR_LENGTH", "Cursor", "cursor_text"]

# The protocol's bound; ours are shorter.
MAX_CURSOR_LENGTH: Final = 128

_VERSION: Final = 1
# version, tag of the feed's id, epoch, revision, seq, digest
_LAYOUT: Final = struct.Struct(">BI8sQQ12s")
_TEXT_LENGTH: Final = -(-_LAYOUT.size * 4 // 3)
_TO_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = "=" * (-_TEXT_LENGTH % 4)
_FROM_URLSAFE: Final = str.maketrans(
    "-_+/", "+/  "
)  # the alphabet's other spellings become no alphabet at all


@dataclass(frozen=True, slots=True)
class Cursor:
    """Which session (`epoch`, 8 bytes), which of its revisions, which of the user's writes it contains
    (`seq`), and what it says (`digest`, 12 bytes; `FeedState.digest`)."""

    epoch: bytes
    revision: int
    seq: int
    digest: bytes

    def encode(self, feed: str) -> str:
        """The wire text, good for `feed` alone: at most 128 of `[A-Za-z0-9_-]`."""
        return cursor_text(feed, self.epoch, self.revision, self.seq, self.digest)

    @classmethod
    def decode(cls, feed: str, text: str) -> Cursor | None:
        """Reads any text whatever: None for what is not a cursor of `feed` that this version made."""
        if len(text) != _TEXT_LENGTH or not text.isascii():
            return None
        try:
            packed = binascii.a2b_base64(text.translate(_FROM_URLSAFE) + _PADDING, strict_mode=True)
        except binascii.Error:
            return None
        version, tag, epoch, revision, seq, digest = _LAYOUT.unpack(packed)
        if version != _VERSION or tag != _tag(feed):
            return None
        return cls(epoch, revision, seq, digest)


def cursor_text(feed: str, epoch: bytes, revision: int, seq: int, digest: bytes) -> str:
    """What `Cursor(epoch, revision, seq, digest).encode(feed)` is, for whoever needs nothing but the text."""
    packed = _LAYOUT.pack(_VERSION, _tag(feed), epoch, revision, seq, digest)
    return b2a_base64(packed, newline=False).translate(_TO_URLSAFE)[:_TEXT_LENGTH].decode()


def _tag(feed: str) -> int:
    # It guards against mix-ups, not against malice: whoever may read a feed may name any cursor of it.
    return binascii.crc32(feed.encode(errors="surrogatepass"))
