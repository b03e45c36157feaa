"""What a connection has read and not yet handled: it exists only while there is something of the kind.

A single read may hold tens of thousands of tiny frames, and a message may be held back because enough
requests are running. Both wait here while reading is paused, and the loop gets its turn in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, assert_never

from server.push.inbound import Broken, Control, Event, FrameParser, Goodbye, Text

__all__ = ["Inflow", "Receiver"]

# The smallest frame is six bytes and costs about 10 us to parse: a slice takes a few milliseconds at most.
_SLICE_BYTES: Final = 4096
# And one after a slice full of tiny frames, which is nobody's way to talk, a millisecond: there may be many
# who flood at once, and each has its slice in every turn of the loop.
_SMALL_SLICE_BYTES: Final = 512
_MANY_FRAMES: Final = 64


class Receiver(Protocol):
    """The connection, as what comes in sees it."""

    @property
    def may_receive(self) -> bool:
        """Whether another message can be handled now. If not, `Inflow.run` is to be called later."""
        ...

    def receive(self, payload: bytes) -> None:
        """A text message."""
        ...

    def receive_broken(self) -> None:
        """A message that is not text."""
        ...

    def count_frames(self, count: int) -> bool:
        """So many frames came in. False: too many, and the connection has been closed."""
        ...

    def answer_pings(self, pongs: list[bytes]) -> None:
        """The parser's answers to pings."""
        ...

    def peer_left(self, parser: FrameParser, goodbye: Goodbye) -> None:
        """The stream of messages is over; what the parser wants to send is the last thing to write."""
        ...

    def drained(self, *, idle: bool) -> None:
        """Everything is handled: reading may go on. `idle`: nothing incomplete is held either."""
        ...

    def held(self) -> None:
        """Something waits: reading must pause."""
        ...


class Inflow:
    """Bytes and messages of one connection on their way in."""

    __slots__ = ("_data", "_events", "_receiver", "_scheduled", "_slice", "over", "parser", "since")

    def __init__(self, receiver: Receiver, *, deflate: bool, max_bytes: int, now: float) -> None:
        self._receiver = receiver
        self._events: deque[Event] = deque()
        self._data = b""
        self._scheduled = False
        self._slice = _SLICE_BYTES
        self.parser = FrameParser(deflate=deflate, max_bytes=max_bytes)
        self.since = now
        """When the message that is coming in began, or the last one was complete."""
        self.over = False
        """Set by the connection when it has closed: nothing more is handled."""

    def keep(self, data: bytes) -> None:
        """More bytes, to be handled when `run` is called."""
        self._data = self._data + data if self._data else data

    def feed(self, data: bytes) -> None:
        """More bytes from the socket."""
        self.keep(data)
        self.run()

    def run(self) -> None:
        """Handles what can be handled now."""
        sliced = False
        while not self.over:
            if self._events:
                if not self._handle_events():
                    return
            elif not self._data:
                self._receiver.drained(idle=self.parser.between_messages)
                return
            elif sliced:
                self._continue_later()
                return
            else:
                sliced = True
                self._parse_slice()

    def _handle_events(self) -> bool:
        """Handles events in their order. False: the rest has to wait, or there is no rest."""
        receiver = self._receiver
        while self._events and not self.over:
            event = self._events[0]
            match event:
                case Text() | Broken() if not receiver.may_receive:
                    if self.parser.over:
                        # The peer is leaving: what cannot start now is not begun any more.
                        self._events.popleft()
                        continue
                    receiver.held()
                    return False
                case Text():
                    receiver.receive(event.payload)
                case Broken():
                    receiver.receive_broken()
                case Control():
                    pass
                case Goodbye():
                    receiver.peer_left(self.parser, event)
                    return False
                case _:
                    assert_never(event)
            if not self.over:
                self._events.popleft()
        return not self.over

    def _parse_slice(self) -> None:
        piece, self._data = self._data[: self._slice], self._data[self._slice :]
        events = self.parser.receive(piece)
        self._slice = _SLICE_BYTES if len(events) < _MANY_FRAMES else _SMALL_SLICE_BYTES
        if not self._receiver.count_frames(len(events)):
            return
        self._events.extend(events)
        if self.parser.over:
            self._data = b""
        elif pongs := self.parser.to_send():
            self._receiver.answer_pings(pongs)

    def _continue_later(self) -> None:
        self._receiver.held()
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._continue)

    def _continue(self) -> None:
        self._scheduled = False
        self.run()
