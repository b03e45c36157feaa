"""Clients that are not ours: the `websockets` client, and bare sockets that say exactly what a test wants."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
from anyio import fail_after
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.typing import Subprotocol

from protocol.delta import Delta, apply
from protocol.feed import FeedState

__all__ = ["Peer", "Follower", "RawPeer", "masked", "open_peer", "open_raw"]

PATIENCE_S = 30.0

Json = dict[str, Any]


class Peer:
    """A connection of the `websockets` library, with what a test asks of one."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.welcome: Json = {}
        self.unread: list[Json] = []
        self._ids = 0

    async def receive(self) -> Json:
        """The next message, whatever it is."""
        with fail_after(PATIENCE_S):
            message = await self.ws.recv()
        assert isinstance(message, str), "the server sends text"
        return orjson.loads(message)

    async def next(self, method: str) -> Json:
        """The params of the next notification of that method; what comes before it is kept for later."""
        return (await self.pick(lambda message: message.get("method") == method))["params"]

    async def pick(self, wanted: Callable[[Json], bool]) -> Json:
        """The next message that is wanted; what comes before it is kept for later."""
        for index, message in enumerate(self.unread):
            if wanted(message):
                return self.unread.pop(index)
        while not wanted(message := await self.receive()):
            self.unread.append(message)
        return message

    async def send(self, method: str, params: object = None, *, id_: object = None) -> None:
        """Sends a request, or a notification where there is no id."""
        message: Json = {"jsonrpc": "2.0", "method": method, "params": {} if params is None else params}
        if id_ is not None:
            message["id"] = id_
        await self.ws.send(orjson.dumps(message).decode())

    async def reply(self, id_: object) -> Json:
        """The reply of that id."""
        return await self.pick(lambda message: "method" not in message and message.get("id") == id_)

    async def request(self, method: str, params: object = None) -> Json:
        """The whole reply to a request."""
        self._ids += 1
        await self.send(method, params, id_=self._ids)
        return await self.reply(self._ids)

    async def call(self, method: str, params: object = None) -> Any:
        """The result of a request that succeeds."""
        reply = await self.request(method, params)
        assert "error" not in reply, reply
        return reply["result"]

    async def fail(self, method: str, params: object = None) -> Json:
        """The error of a request that fails."""
        reply = await self.request(method, params)
        assert "error" in reply, reply
        return reply["error"]

    async def closed(self) -> Close:
        """How the server closes; messages before that are kept."""
        try:
            while True:
                self.unread.append(await self.receive())
        except ConnectionClosed as closed:
            return closed.rcvd or Close(1006, "")

    def methods(self) -> list[str]:
        """What has been kept unread."""
        return [message.get("method", "reply") for message in self.unread]


class Follower:
    """A feed as a client puts it together from frames."""

    def __init__(self, peer: Peer, feed: str) -> None:
        self._peer = peer
        self.feed = feed
        self.state = FeedState.EMPTY
        self.cursor = ""
        self.frames = 0

    async def step(self) -> str:
        """Takes in the next snapshot or delta of this feed; says which it was."""
        message = await self._peer.pick(self._is_ours)
        params = message["params"]
        if message["method"] == "feed.snapshot":
            self.state = FeedState.from_wire(params)
        else:
            assert params["base"] == self.cursor, "a delta that does not follow"
            self.state = apply(self.state, Delta.from_wire(params))
        self.cursor = params["cursor"]
        self.frames += 1
        return message["method"]

    def _is_ours(self, message: Json) -> bool:
        frames = ("feed.snapshot", "feed.delta")
        return message.get("method") in frames and message["params"]["feed"] == self.feed

    def texts(self) -> list[object]:
        """What the notes say."""
        return [item.data.get("text") for item in self.state.items]


@asynccontextmanager
async def open_peer(
    address: str,
    token: str | None,
    *,
    query: str = "",
    by_subprotocol: bool = False,
    headers: Mapping[str, str] | None = None,
    compression: str | None = None,
    welcome: bool = True,
    subprotocols: Sequence[str] = ("freya.v1",),
) -> AsyncGenerator[Peer]:
    """Connects to `HOST:PORT`; raises what the library raises when it is refused."""
    offered = [*subprotocols, *([f"bearer.{token}"] if by_subprotocol else [])]
    sent = dict(headers or {})
    if token is not None and not by_subprotocol:
        sent["Authorization"] = f"Bearer {token}"
    with fail_after(PATIENCE_S):
        ws = await connect(
            f"ws://{address}/v1/feed{query}",
            subprotocols=[Subprotocol(name) for name in offered],
            additional_headers=sent,
            compression=compression,
            ping_interval=None,
            open_timeout=None,
            close_timeout=None,
            proxy=None,
        )
    try:
        peer = Peer(ws)
        if welcome:
            peer.welcome = await peer.next("connection.welcome")
        yield peer
    finally:
        ws.transport.abort()


def masked(payload: bytes, *, opcode: int = 1, fin: bool = True, rsv1: bool = False) -> bytes:
    """One frame as a client sends it."""
    key = os.urandom(4)
    size = len(payload)
    head = bytes([opcode | 0x80 * fin | 0x40 * rsv1])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class RawPeer:
    """A socket that has been upgraded by hand. Frames are read by hand too."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._transport = cast("asyncio.Transport", writer.transport)
        self._stalled = False

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def stall(self) -> None:
        """Takes nothing more from the socket, as a program that hangs; until it reads a frame."""
        self._transport.pause_reading()
        self._stalled = True

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte and its payload."""
        if self._stalled:
            self._stalled = False
            self._transport.resume_reading()
        with fail_after(PATIENCE_S):
            head, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return head, await self.reader.readexactly(size)

    async def message(self) -> Json:
        """The next text message; control frames are passed over."""
        while True:
            head, payload = await self.frame()
            if head == 0x81:
                return orjson.loads(payload)

    async def until(self, method: str) -> Json:
        """The params of the next notification of that method."""
        while (message := await self.message()).get("method") != method:
            pass
        return message["params"]

    async def close_frame(self) -> tuple[int, str]:
        """The code and reason of the close frame; what comes before it is passed over."""
        while True:
            head, payload = await self.frame()
            if head == 0x88:
                return (struct.unpack("!H", payload[:2])[0] if payload else 1005), payload[2:].decode()

    async def rest(self) -> bytes:
        """Everything until the server ends the stream."""
        with fail_after(PATIENCE_S):
            return await self.reader.read()


@asynccontextmanager
async def open_raw(
    address: str,
    token: str | None = None,
    *,
    query: str = "",
    headers: str = "",
    early: bytes = b"",
    upgrade: bool = True,
) -> AsyncGenerator[RawPeer]:
    """A bare socket; upgraded unless told not to. `early` goes out in the same write as the request."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = RawPeer(reader, writer)
    try:
        if upgrade:
            request = (
                f"GET /v1/feed{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: freya.v1\r\n"
                f"Authorization: Bearer {token}\r\n{headers}\r\n"
            )
            await peer.send(request.encode() + early)
            with fail_after(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
        yield peer
    finally:
        writer.transport.abort()
