"""A TCP proxy to make faults with: it can hold bytes back, cut connections, and turn new ones away.

    async with open_proxy(lambda: port) as proxy:    proxy.port leads to that port of this machine
        proxy.hold()        nothing passes any more and nobody is told: half-open links
        proxy.cut()         every connection is reset

With a function that names another port each time it is a balancer, too. Each connection is a `Line`, and can
be held and cut by itself.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, create_task_group
from anyio.abc import ByteStream, SocketAttribute, TaskGroup
from anyio.streams.tls import TLSStream

__all__ = ["Line", "Proxy", "open_proxy"]

_Gone = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)


class Line:
    """One connection through the proxy."""

    def __init__(self, near: ByteStream, far: ByteStream, target: int) -> None:
        self.target = target
        """The port that it leads to."""
        self._near = near
        self._far = far
        self._open = {near: Event(), far: Event()}
        self.release()

    def hold(self, *, only_down: bool = False) -> None:
        """Nothing passes until `release`; `only_down`: towards the client, as if it had stopped reading."""
        self._open[self._far] = Event()
        if not only_down:
            self._open[self._near] = Event()

    def release(self) -> None:
        """What was held back passes, and all that follows."""
        for gate in self._open.values():
            gate.set()

    def cut(self) -> None:
        """Resets both ends, as a crash of the machine between them would."""
        for stream in (self._near, self._far):
            raw = stream.extra(SocketAttribute.raw_socket)
            with suppress(OSError):  # its own end may have closed it already
                # Whatever is unsent is thrown away when the socket is closed, and the other end sees a reset.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.shutdown(socket.SHUT_RD)
        self.release()

    async def run(self) -> None:
        """Carries bytes until either end closes."""
        with suppress(*_Gone):
            async with self._near, self._far, create_task_group() as tasks:
                tasks.start_soon(self._pump, self._near, self._far, tasks)
                await self._pump(self._far, self._near, tasks)

    async def _pump(self, source: ByteStream, sink: ByteStream, tasks: TaskGroup) -> None:
        with suppress(*_Gone):
            while True:
                data = await source.receive()
                await self._open[source].wait()
                await sink.send(data)
        tasks.cancel_scope.cancel()


class Proxy:
    """See the module. Use `open_proxy`."""

    def __init__(self, target: Callable[[], int]) -> None:
        self.port = 0
        self.refuses = False
        """Whether who comes is turned away at once."""
        self.lines: list[Line] = []
        """The connections through it, the oldest first."""
        self._target = target
        self._holds = False

    def hold(self) -> None:
        """From now on nothing passes, on present lines nor on new ones, until `release`."""
        self._holds = True
        for line in self.lines:
            line.hold()

    def release(self) -> None:
        """Everything passes again."""
        self._holds = False
        for line in self.lines:
            line.release()

    def cut(self) -> None:
        """Resets every connection."""
        for line in tuple(self.lines):
            line.cut()

    async def serve(self, near: ByteStream) -> None:
        """One connection, until either end closes it."""
        if self.refuses:
            await near.aclose()
            return
        target = self._target()
        try:
            far = await anyio.connect_tcp("127.0.0.1", target)
        except OSError:
            await near.aclose()
            return
        line = Line(near, far, target)
        if self._holds:
            line.hold()
        self.lines.append(line)
        try:
            await line.run()
        finally:
            self.lines.remove(line)


@asynccontextmanager
async def open_proxy(
    target: Callable[[], int], *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Proxy]:
    """A proxy on a free loopback port; with `tls`, whoever comes is spoken to in TLS."""
    proxy = Proxy(target)

    async def serve(stream: ByteStream) -> None:
        if tls is None:
            await proxy.serve(stream)
            return
        with suppress(*_Gone, ssl.SSLError):
            secured = await TLSStream.wrap(
                stream, server_side=True, ssl_context=tls, standard_compatible=False
            )
            await proxy.serve(secured)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    proxy.port = listener.extra(SocketAttribute.local_port)
    async with create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()
    await listener.aclose()
