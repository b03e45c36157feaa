"""A line between the store and PostgreSQL that reads what passes, and can be cut at a chosen statement.

It understands the frontend messages of the protocol (PostgreSQL documentation, "Message Formats") as far as
telling where one ends and which statements are run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream

__all__ = ["Fault", "Wire", "open_wire"]


class Fault(Enum):
    """What happens at a statement, and for good to the connection it came on."""

    LOSE_STATEMENT = "the line breaks before it arrives"
    LOSE_ANSWER = "it arrives and is answered, and the line breaks before the answer arrives"
    SILENCE = "it does not arrive, and neither does anything else, but the line stays"


class Wire:
    """The line. `dsn` leads through it; `executed` counts the prepared statements that were run over it."""

    def __init__(self, dsn: str, upstream: tuple[str, int]) -> None:
        self.dsn = dsn
        self.executed = 0
        self.faults: dict[bytes, Fault] = {}
        self.reached = anyio.Event()
        self.refusing = False
        self._upstream = upstream

    def at(self, statement: str, fault: Fault) -> None:
        """Do this at the next message with that text in it, once."""
        self.faults[statement.encode()] = fault
        self.reached = anyio.Event()

    async def serve(self, client: SocketStream) -> None:
        async with client:
            if self.refusing:
                return
            async with await anyio.connect_tcp(*self._upstream) as server, anyio.create_task_group() as group:
                line = _Line(self, client, server, group.cancel_scope)
                group.start_soon(line.forwards)
                group.start_soon(line.backwards)

    def fault_of(self, message: bytes) -> Fault | None:
        for text in list(self.faults):
            if text in message:
                return self.faults.pop(text)
        return None


class _Line:
    def __init__(
        self, wire: Wire, client: SocketStream, server: SocketStream, scope: anyio.CancelScope
    ) -> None:
        self._wire = wire
        self._client = client
        self._server = server
        self._scope = scope
        self._mute = False

    async def forwards(self) -> None:
        started = False
        pending = b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                pending += await self._client.receive()
                # The first message has no type byte.
                while len(pending) >= 5 and len(pending) >= (size := _size(pending, started)):
                    message, pending = pending[:size], pending[size:]
                    await self._pass_on(message, started)
                    started = True
        self._scope.cancel()

    async def _pass_on(self, message: bytes, started: bool) -> None:
        fault = self._wire.fault_of(message) if started else None
        if fault is None:
            self._wire.executed += started and message[:1] == b"E"
            await self._server.send(message)
            return
        if fault is Fault.LOSE_ANSWER:
            self._mute = True
            await self._server.send(message)
            await anyio.sleep_forever()
        self._wire.reached.set()
        if fault is Fault.SILENCE:
            await anyio.sleep_forever()
        self._scope.cancel()

    async def backwards(self) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                answer = await self._server.receive()
                if self._mute:
                    self._wire.reached.set()
                    break
                await self._client.send(answer)
        self._scope.cancel()


def _size(message: bytes, started: bool) -> int:
    return int.from_bytes(message[1:5]) + 1 if started else int.from_bytes(message[:4])


@asynccontextmanager
async def open_wire(dsn: str) -> AsyncGenerator[Wire]:
    """A line to where `dsn` (over TCP) leads."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        here = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
        through = urlunsplit(parts._replace(netloc=here, query="sslmode=disable"))
        wire = Wire(through, (parts.hostname, parts.port))
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, wire.serve)
            yield wire
            group.cancel_scope.cancel()
