"""What comes in: bytes become messages and control frames.

The parser is the library's, made when something arrives that needs one and dropped at the next frame
boundary, so that an idle connection has none. What clients send nearly always, one whole small text frame
or the pong that answers our ping, is read without it; a test holds the two readings equal.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import GeneratorType
from typing import Final, TypeAlias

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import (
    Frame,
    Opcode,
    apply_mask,  # pyright: ignore[reportPrivateImportUsage] -- the one of C or Python, whichever is there
)
from websockets.protocol import Protocol, Side, State
from websockets.streams import StreamReader

from protocol.transport import MAX_MESSAGE_BYTES
from server.push.frames import DEFLATE_WINDOW_BITS

__all__ = ["QUIET", "Broken", "Control", "Event", "FrameParser", "Goodbye", "Text", "read_small"]

# The library reports each opening, closing and failure; a peer's mistakes are no events of ours.
QUIET: Final = logging.getLogger("server.push.wire")
QUIET.setLevel(logging.CRITICAL)

_FINAL_TEXT: Final = 0x81
_FINAL_PONG: Final = 0x8A
_MASKED: Final = 0x80


@dataclass(frozen=True, slots=True)
class Text:
    """A whole text message. Its bytes are not known to be UTF-8 yet."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """A whole message that is not text: `size` bytes of binary."""

    size: int


@dataclass(frozen=True, slots=True)
class Control:
    """A ping (its answer is among the bytes to write), a pong, or a fragment: only its coming counts."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The stream of messages is over: the peer closed, or broke the framing and was told so.

    `code` is what the close frame said (the peer's, or ours), 1005 for a close frame without one.
    """

    code: int
    failed: bool


Event: TypeAlias = Text | Broken | Control | Goodbye

_CONTROL: Final = Control()


def read_small(data: bytes) -> bytes | None:
    """The payload of a read that is exactly one whole, plain, masked text frame of under 64 KiB.

    b"" also for one whole pong; None for everything else, which needs the parser.
    """
    size = len(data)
    if size < 6:
        return None
    head, length = data[0], data[1] ^ _MASKED
    if head == _FINAL_TEXT:
        if length < 126:
            return apply_mask(data[6:], data[2:6]) if length and size == length + 6 else None
        if length == 126 and size >= 8 and size == (data[2] << 8 | data[3]) + 8 and size > 8:
            return apply_mask(data[8:], data[4:8])
    elif head == _FINAL_PONG and length < 126 and size == length + 6:
        return b""
    return None


class FrameParser:
    """The library's protocol object for one connection, and the message it is putting together."""

    __slots__ = ("_opcode", "_parts", "_protocol")

    def __init__(self, *, deflate: bool, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=max_bytes, logger=QUIET)
        if deflate:
            self._protocol.extensions = [_decoder()]
        self._opcode: Opcode | None = None
        self._parts = bytearray()

    def __del__(self) -> None:
        # The protocol and its running generator hold each other, as do it and the traceback of what it failed
        # over; and with them a decompressor. Not to be left for a collector that comes by seldom.
        parser = self._protocol.parser
        if isinstance(parser, GeneratorType):
            parser.close()
        self._protocol.parser_exc = None

    @property
    def between_messages(self) -> bool:
        """Whether nothing incomplete is held: the parser may be dropped."""
        if self._opcode is not None or self._protocol.reader.buffer:
            return False
        # The parser waits in `at_eof` before a frame, and in `read_exact` inside one.
        parser = self._protocol.parser
        waits_in = parser.gi_yieldfrom if isinstance(parser, GeneratorType) else None
        return isinstance(waits_in, GeneratorType) and waits_in.gi_code is StreamReader.at_eof.__code__

    @property
    def over(self) -> bool:
        """Whether a close frame has been sent or the stream has failed; no message comes after that."""
        return self._protocol.state is not State.OPEN

    @property
    def peer_closed(self) -> bool:
        """Whether the closing handshake is done, or there will be none: the socket may be closed."""
        return self._protocol.eof_sent

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes complete, in order. What is to be answered to them is left in `to_send`."""
        was_over = self.over
        self._protocol.receive_data(data)
        events: list[Event] = []
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if (message := self._frame(event)) is not None:
                events.append(message)
        if self.over and not was_over:
            events.append(self._goodbye())
        return events

    def to_send(self) -> list[bytes]:
        """The frames that the parser wants written: pongs, a close frame. The end of the stream is not among
        them; see `peer_closed`."""
        return [frame for frame in self._protocol.data_to_send() if frame]

    def close(self, code: int, reason: str) -> bytes:
        """Begins a close of ours; returns the close frame. From now on only the peer's close counts."""
        self._protocol.send_close(code, reason)
        return b"".join(self.to_send())

    def fail(self, code: int, reason: str) -> bytes:
        """Ends the stream over what the peer sent (RFC 6455, section 7.1.7); returns the close frame. The
        peer's own is not waited for."""
        self._protocol.fail(code, reason)
        return b"".join(self.to_send())

    def _frame(self, frame: Frame) -> Event | None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._opcode = frame.opcode
                if frame.fin:
                    return self._message(bytes(frame.data))
                self._parts += frame.data
                return _CONTROL
            case Opcode.CONT:
                self._parts += frame.data
                return self._message(bytes(self._parts)) if frame.fin else _CONTROL
            case Opcode.PING | Opcode.PONG:
                return _CONTROL
            case Opcode.CLOSE:
                return None

    def _message(self, payload: bytes) -> Event:
        opcode, self._opcode = self._opcode, None
        if self._parts:
            self._parts = bytearray()
        if opcode is Opcode.TEXT:
            return Text(payload)
        # Some phones ping with an empty binary frame.
        return Broken(len(payload)) if payload else _CONTROL

    def _goodbye(self) -> Goodbye:
        protocol = self._protocol
        failed = protocol.parser_exc is not None
        said = protocol.close_sent if failed else protocol.close_rcvd
        return Goodbye(1006 if said is None else int(said.code), failed)


def _decoder() -> PerMessageDeflate:
    """Each message of the client stands alone. It may have used any window up to the largest, whatever was
    agreed: reading with the largest costs memory only while a message is read."""
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=15,
        local_max_window_bits=DEFLATE_WINDOW_BITS,
    )
