"""Web servers for tests: real sockets on loopback, in the test's own loop, that answer as they are told.

    async with open_web(answer) as web:
        ... web.url + "/feed" ...

`answer` is called with each request and returns a Reply, or raw bytes for what no honest server would send.
All requests are kept in `web.requests`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

__all__ = ["Answer", "Asked", "Reply", "Web", "json_reply", "open_web"]


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass
class Reply:
    """An answer. `body` may be an iterator: then it is sent piece by piece, chunked. `cut` closes the
    connection after so many bytes of the body, as if it had broken."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cut: int | None = None


Answer = Callable[[Asked], "Reply | bytes | Awaitable[Reply | bytes]"]


def json_reply(text: bytes | str, status: int = 200, **headers: str) -> Reply:
    body = text.encode() if isinstance(text, str) else text
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"content-type": "application/json", **named})


class Web:
    """A server that runs."""

    def __init__(self, answer: Answer, scheme: str) -> None:
        self.answer = answer
        self.requests: list[Asked] = []
        self.under_way = 0
        self.most_under_way = 0
        self.connections = 0
        self.port = 0
        self._scheme = scheme
        self._arrived = anyio.Event()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def url_by(self, host: str) -> str:
        """Its address under another name."""
        return f"{self._scheme}://{host}:{self.port}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.requests]

    async def wait_for(self, requests: int) -> None:
        """Returns when so many requests have come."""
        with anyio.fail_after(20):
            while len(self.requests) < requests:
                await self._arrived.wait()

    async def serve(self, stream: ByteStream) -> None:
        self.connections += 1
        # Whatever the other side does with its connection is its own business.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, h11.RemoteProtocolError):
            async with stream:
                await self._talk(stream)

    async def _talk(self, stream: ByteStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            asked = await _read(connection, stream)
            if asked is None:
                return
            self.requests.append(asked)
            self._arrived.set()
            self._arrived = anyio.Event()
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                reply = self.answer(asked)
                if not isinstance(reply, Reply | bytes):
                    reply = await reply
                if isinstance(reply, bytes):
                    await stream.send(reply)
                    return
                await _write(connection, stream, reply, asked.method)
            finally:
                self.under_way -= 1
            if reply.cut is not None or connection.our_state is not h11.DONE:
                return
            connection.start_next_cycle()


async def _read(connection: h11.Connection, stream: ByteStream) -> Asked | None:
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            try:
                connection.receive_data(await stream.receive())
            except anyio.EndOfStream:
                connection.receive_data(b"")
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
            return Asked(request.method.decode(), request.target.decode(), headers, body)
        else:
            return None


async def _write(connection: h11.Connection, stream: ByteStream, reply: Reply, method: str) -> None:
    headers = list(reply.headers.items())
    names = {name.lower() for name in reply.headers}
    has_body = method != "HEAD" and reply.status not in (204, 304)
    if has_body and isinstance(reply.body, bytes) and not names & {"content-length", "transfer-encoding"}:
        headers.append(("content-length", str(len(reply.body))))
    response = h11.Response(status_code=reply.status, headers=headers)
    await stream.send(connection.send(response) or b"")
    if isinstance(reply.body, bytes):
        if has_body:
            whole = reply.body if reply.cut is None else reply.body[: reply.cut]
            await stream.send(connection.send(h11.Data(data=whole)) or b"")
    else:
        async for chunk in reply.body:
            await stream.send(connection.send(h11.Data(data=chunk)) or b"")
    if reply.cut is None:
        await stream.send(connection.send(h11.EndOfMessage()) or b"")


@asynccontextmanager
async def open_web(
    answer: Answer, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Web]:
    """A server that listens until the end of the block; connections still open then are dropped."""
    web = Web(answer, "http" if tls is None else "https")
    listener = await anyio.create_tcp_listener(local_host=host)
    web.port = listener.extra(SocketAttribute.local_port)
    serving = listener if tls is None else TLSListener(listener, tls, standard_compatible=False)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(serving.serve, web.serve)
        try:
            yield web
        finally:
            group.cancel_scope.cancel()
