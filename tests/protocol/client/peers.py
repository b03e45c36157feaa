"""The other end of the client's socket, played by the test: a real server that says what it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import anyio
import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from protocol import encoding
from protocol.delta import diff
from protocol.errors import RpcError
from protocol.feed import FeedState
from protocol.frozen import JsonObject, JsonValue
from protocol.jsonrpc import RequestId
from tests.protocol.strategies import START, make_item

__all__ = ["PATIENCE_S", "Heard", "Notes", "Peer", "Server", "feed_of", "open_server", "until"]

# Far over what any step takes; on the virtual clock it costs nothing.
PATIENCE_S = 20.0

LIMITS: JsonObject = {
    "maxMessageBytes": 65536,
    "maxFrameBytes": 786432,
    "requestsPerS": 20.0,
    "burst": 40,
    "concurrent": 16,
    "subscriptions": 64,
    "items": 2000,
}


def feed_of(*versions: int) -> FeedState:
    """A feed of items s/0, s/1, ... in these versions."""
    return FeedState(tuple(make_item(str(at), version) for at, version in enumerate(versions)))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what no event tells of."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- conditions of any kind, with nothing to wait on
            await anyio.sleep(0.002)


class Notes:
    """What a client was told, for `on_notification`. What came before has then had its effect."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, JsonObject]] = []

    def __call__(self, method: str, params: JsonObject) -> None:
        self.taken.append((method, params))

    async def up_to_here(self, peer: Peer) -> None:
        """Returns once the client has read everything that the peer has sent."""
        seen = len(self.taken)
        await peer.say("test.mark", {"seen": seen})
        await until(lambda: ("test.mark", {"seen": seen}) in self.taken)


class Heard:
    """What the client sent."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.id = cast("RequestId | None", message.get("id"))
        self.method = cast("str", message["method"])
        self.params = cast("JsonObject", message["params"])


class Peer:
    """One accepted connection, with its handshake."""

    def __init__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.headers: Mapping[str, str] = dict(socket.request.headers.raw_items())
        self.path = urlsplit(socket.request.path).path
        self.query = dict(parse_qsl(urlsplit(socket.request.path).query))
        self.socket = socket

    async def welcome(self, user: str = "alice", **changes: JsonValue) -> None:
        await self.say(
            "connection.welcome",
            {
                "server": "0.1.0",
                "protocol": 1,
                "schemaDigest": "d",
                "replica": "r1",
                "connection": "c1",
                "user": user,
                "now": "2026-03-02T09:00:00Z",
                "expiresAt": "2026-03-02T10:00:00Z",
                "heartbeatMs": 25000,
                "limits": LIMITS,
                **changes,
            },
        )

    async def snapshot(self, state: FeedState, cursor: str, feed: str = "alice") -> None:
        await self.send(encoding.snapshot_message(feed, cursor, START, state, context=True))

    async def delta(
        self, old: FeedState, base: str, new: FeedState, cursor: str, feed: str = "alice"
    ) -> None:
        await self.send(
            encoding.delta_message(feed, base, cursor, START, diff(old, new), context=True, cause=None)
        )

    async def say(self, method: str, params: JsonObject) -> None:
        await self.send(encoding.notification(method, params))

    async def send(self, message: bytes) -> None:
        await self.socket.send(message, text=True)

    async def hear(self, method: str | None = None) -> Heard:
        """The next message of the client; with `method`, it has to be that."""
        with anyio.fail_after(PATIENCE_S):
            heard = Heard(orjson.loads(await self.socket.recv(decode=False)))
        assert method in (None, heard.method)
        return heard

    async def answer(self, heard: Heard, result: object) -> None:
        assert heard.id is not None
        await self.send(encoding.response(heard.id, result))

    async def refuse(self, heard: Heard, error: RpcError) -> None:
        await self.send(encoding.error_response(heard.id, error))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.socket.close(code, reason)

    def drop(self) -> None:
        """Cuts the line, without a word."""
        self.socket.transport.abort()

    async def wait_closed(self) -> int | None:
        """Waits until the client has gone, and tells its close code."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    await self.socket.recv()
                except ConnectionClosed:
                    return self.socket.close_code


class Server:
    """Accepts every client, or refuses it where the test said so before."""

    def __init__(self) -> None:
        self.url = ""
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.subprotocol: Subprotocol | None = Subprotocol("freya.v1")
        self.attempts = 0
        self._peers_in, self._peers = anyio.create_memory_object_stream[Peer](16)

    async def accept(self) -> Peer:
        """The next connection."""
        with anyio.fail_after(PATIENCE_S):
            return await self._peers.receive()

    async def accept_live(self, state: FeedState, cursor: str) -> Peer:
        """The next connection, welcomed and with a first state."""
        peer = await self.accept()
        await peer.welcome()
        await peer.snapshot(state, cursor)
        return peer

    def refuse(self, status: int, **headers: str) -> None:
        """The next connection is refused over HTTP."""
        self.refusals.append((status, {name.replace("_", "-"): value for name, value in headers.items()}))

    async def on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        if not self.refusals:
            return None
        status, headers = self.refusals.pop(0)
        response = connection.respond(status, "no\n")
        for name, value in headers.items():
            response.headers[name] = value
        return response

    def on_select(self, connection: ServerConnection, offered: object) -> Subprotocol | None:
        return self.subprotocol

    async def on_connection(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self._peers_in.send_nowait(peer)
        await socket.wait_closed()

    def close(self) -> None:
        self._peers_in.close()
        self._peers.close()


@asynccontextmanager
async def open_server() -> AsyncGenerator[Server]:
    server = Server()
    async with serve(
        server.on_connection,
        "127.0.0.1",
        0,
        process_request=server.on_request,
        select_subprotocol=server.on_select,
        ping_interval=None,
        close_timeout=0,
    ) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"ws://127.0.0.1:{port}"
        yield server
        server.close()
        for connection in listening.connections:
            connection.transport.abort()
