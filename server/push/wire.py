"""The lower half of a connection: a socket that speaks WebSocket frames.

Bytes become messages, frames become writes, and a close happens once and in order. What messages mean, and
what is to be written when, is the upper half's: `connection`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING

from protocol.closing import CloseCode
from server.push.frames import Message
from server.push.inbound import FrameParser, Goodbye, read_small
from server.push.inflow import Inflow
from server.push.line import Line, Stop
from server.push.outbox import Outbox

if TYPE_CHECKING:
    from server.push.hub import Hub

__all__ = ["Phase", "Wire"]


class Phase(Enum):
    """Where a connection stands. It only moves forward."""

    ATTACHING = "attaching"
    """Upgraded; the first state is not there yet. Nothing is read."""
    OPEN = "open"
    CLOSED = "closed"
    """Nothing of ours is written any more; the socket may still be closing."""


class Wire(asyncio.Protocol, ABC):
    """Everything runs on the loop's thread, and nothing waits."""

    __slots__ = (
        "_inflow",
        "_outbox",
        "_reading",
        "bucket",
        "deflate",
        "hub",
        "line",
        "phase",
        "transport",
        "writable",
    )

    def __init__(self, hub: Hub, transport: asyncio.Transport, *, deflate: bool, line: Line) -> None:
        self.hub = hub
        self.transport = transport
        self.deflate = deflate
        """Whether compression was negotiated."""
        self.line = line
        self.phase = Phase.ATTACHING
        self.bucket = -1
        self.writable = True
        """Whether the socket takes more at the moment."""
        self._reading = True
        self._inflow: Inflow | None = None
        self._outbox: Outbox | None = None

    # The upper half

    @property
    @abstractmethod
    def may_receive(self) -> bool:
        """Whether another message can be handled now."""

    @abstractmethod
    def receive_text(self, payload: bytes) -> None:
        """A text message that is UTF-8."""

    @abstractmethod
    def receive_broken(self) -> None:
        """A message that is not text."""

    @abstractmethod
    def count_frames(self, count: int) -> bool:
        """So many frames came in, of whatever kind. False: too many, and the connection has been closed."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Writes frames to an open connection."""

    @abstractmethod
    def changed(self) -> None:
        """There may be something to write."""

    @abstractmethod
    def refresh(self) -> None:
        """`phase` or `writable` has changed."""

    @abstractmethod
    def left(self, code: int, reason: str) -> None:
        """The connection has ended: called once, whatever ended it."""

    # The transport's calls

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.line.heard = self.hub.clock.monotonic()
        if self._inflow is None:
            payload = read_small(data) if len(data) <= self.hub.options.max_message_bytes else None
            if payload is not None:
                if payload:
                    self.receive(payload)
                    if not self.may_receive and self.phase is Phase.OPEN:
                        self.hold(b"")
                return
            self._inflow = self._new_inflow()
        self._inflow.feed(data)

    def eof_received(self) -> bool:
        """The peer has ended without a close frame: so has the connection."""
        return False

    def pause_writing(self) -> None:
        """The socket is full. What changes from now on is conflated."""
        now = self.hub.clock.monotonic()
        self.writable = False
        self.refresh()
        self.line.stop(Stop.UNWRITABLE, now, self.transport.get_write_buffer_size())
        if self.phase is Phase.OPEN:
            self.hub.sweeper.watch(self, now + self.hub.options.stall_s / 8)

    def resume_writing(self) -> None:
        """The socket has drained: what it missed is written as one."""
        self.writable = True
        self.line.go_on(Stop.UNWRITABLE, self.hub.clock.monotonic())
        self.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, with or without a word."""
        self._leave(CloseCode.ABNORMAL, "")

    @abstractmethod
    def sweep(self, now: float) -> float | None:
        """Does what is due at `now`; returns when to look again."""

    # What comes in

    def hold(self, early: bytes) -> None:
        """Reads nothing for now. `early` has been read already, and is handled first when reading goes on."""
        if early:
            if self._inflow is None:
                self._inflow = self._new_inflow()
            self._inflow.keep(early)
        self.held()

    def go_on(self) -> None:
        """What was held back is handled, if it may be."""
        if self._reading or not self.may_receive:
            return
        if self._inflow is None:
            self.drained(idle=True)
        else:
            self._inflow.run()

    def receive(self, payload: bytes) -> None:
        """A text message. Text that is not UTF-8 ends the connection (RFC 6455, section 8.1)."""
        if self._inflow is not None:
            self._inflow.since = self.line.heard
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_TEXT, "text that is not UTF-8")
                return
        self.receive_text(payload)

    def answer_pings(self, pongs: list[bytes]) -> None:
        """The answers go out at once; while the socket is full, the newest is kept."""
        if self.writable:
            self.write_now(b"".join(pongs))
        else:
            self.box().pong(pongs[-1])

    def peer_left(self, parser: FrameParser, goodbye: Goodbye) -> None:
        """The peer closed, or broke the framing: the parser's close frame is the last word."""
        last_words = b"".join(parser.to_send())
        if goodbye.failed and goodbye.code == CloseCode.TOO_BIG:
            self.hub.counters.limit("max_message_bytes")
        if self._leave(goodbye.code, ""):
            self.transport.write(last_words)
            self.hub.members.say_farewell(self.transport, parser)

    def held(self) -> None:
        """Something that has come must wait: reading pauses."""
        if self._reading:
            self._reading = False
            self.line.stop(Stop.NOT_READING, self.hub.clock.monotonic())
            self.transport.pause_reading()

    def drained(self, *, idle: bool) -> None:
        """All that has come is handled: reading goes on."""
        if idle:
            self._inflow = None
        if not self._reading and self.phase is not Phase.CLOSED:
            self._reading = True
            self.line.go_on(Stop.NOT_READING, self.hub.clock.monotonic())
            self.transport.resume_reading()

    def has_waited_for_message(self, now: float) -> float:
        """For how long (s) part of a message has waited for the rest; 0 while that is our doing."""
        return now - self._inflow.since if self._inflow is not None and self._reading else 0.0

    # What goes out

    def box(self) -> Outbox:
        """What waits to be written; made when it is first needed."""
        if self._outbox is None:
            self._outbox = Outbox()
        return self._outbox

    def framed(self, payload: bytes) -> bytes:
        """A message for this connection alone, as a frame."""
        return Message(payload).frame(deflate=self.deflate)

    def write_now(self, frames: bytes) -> None:
        """Writes at once, without waiting for the tick."""
        self.line.sent = self.hub.clock.monotonic()
        self.write(frames)

    # The end

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.phase is Phase.CLOSED

    def close(self, code: int, reason: str = "") -> None:
        """Closes with a code. Nothing is written after the close frame. Idempotent."""
        inflow = self._inflow
        if self._leave(code, reason):
            parser = inflow.parser if inflow is not None else FrameParser(deflate=self.deflate)
            if parser.over:
                # The peer's own close frame has been read, and what came before it was being handled.
                last_words = b"".join(parser.to_send())
            else:
                last_words = parser.close(code, reason)
            self.transport.write(last_words)
            self.hub.members.say_farewell(self.transport, parser)

    def abort(self, code: int) -> None:
        """Drops the socket without a word: there is nobody to hear it. Idempotent."""
        if self._leave(code, ""):
            self.transport.abort()

    def give_up(self) -> None:
        """A fault of ours: the client comes back and is given a state it can rely on."""
        self.close(CloseCode.INTERNAL)

    def _new_inflow(self) -> Inflow:
        hub = self.hub
        max_bytes = hub.options.max_message_bytes
        return Inflow(self, deflate=self.deflate, max_bytes=max_bytes, now=hub.clock.monotonic())

    def _fail(self, code: int, reason: str) -> None:
        """Ends over what the peer sent, without waiting for its close frame."""
        if self._leave(code, reason):
            parser = FrameParser(deflate=self.deflate)
            self.transport.write(parser.fail(code, reason))
            self.hub.members.say_farewell(self.transport, parser)

    def _leave(self, code: int, reason: str) -> bool:
        """Ends everything but the socket. False if that was done before."""
        if self.phase is Phase.CLOSED:
            return False
        self.phase = Phase.CLOSED
        self.refresh()
        self.hub.sweeper.forget(self)
        if self._inflow is not None:
            self._inflow.over = True
            self._inflow = None
        self._outbox = None
        self.left(code, reason)
        return True
