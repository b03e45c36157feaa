"""What is left of a connection once its close frame is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.push.inbound import FrameParser
from server.push.sweeper import Sweeper

__all__ = ["Farewell"]

# A peer that still sends after our close frame is read (closing a socket with unread bytes would reset it and
# could destroy the close frame on its way), but not without end.
_MAX_LATE_BYTES = 256 * 1024


class Farewell(asyncio.Protocol):
    """Waits for the peer's close frame, or its end of stream, and closes the socket; cuts it at the deadline.

    Nothing is written here: after a close frame there is nothing more to say (RFC 6455, section 5.5.1).
    """

    __slots__ = ("_late_bytes", "_on_gone", "_parser", "_sweeper", "_transport", "bucket")

    def __init__(
        self,
        transport: asyncio.Transport,
        parser: FrameParser,
        sweeper: Sweeper,
        *,
        deadline: float,
        on_gone: Callable[[Farewell], None],
    ) -> None:
        self.bucket = -1
        self._transport = transport
        self._parser = parser
        self._sweeper = sweeper
        self._on_gone = on_gone
        self._late_bytes = 0
        sweeper.watch(self, deadline)
        transport.set_protocol(self)
        if parser.peer_closed:
            self._finish()
        else:
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Reads on until the peer's own close frame."""
        self._late_bytes += len(data)
        if self._late_bytes > _MAX_LATE_BYTES:
            self._transport.abort()
        elif not self._parser.peer_closed:
            self._parser.receive(data)
            if self._parser.peer_closed:
                self._finish()

    def eof_received(self) -> bool:
        """The peer is done: so is the socket."""
        return False

    def pause_writing(self) -> None:
        """Nothing is written here any more."""

    def resume_writing(self) -> None:
        """Nothing is written here any more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._sweeper.forget(self)
        self._on_gone(self)

    def sweep(self, now: float) -> float | None:
        """The deadline: whatever is still unwritten is given up."""
        self._transport.abort()
        return None

    def abort(self) -> None:
        """Cuts it now."""
        self._transport.abort()

    def _finish(self) -> None:
        """Ends our side. The other end of the stream follows from the peer, or at the deadline."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
