"""A client on a transport in memory: the bytes are those of the wire, only the network is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import orjson
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from protocol.delta import Delta, apply
from protocol.feed import FeedState
from protocol.frozen import JsonObject
from server.http.types import ListenerKind
from server.push import Gateway
from server.push.listener import Greeting

__all__ = ["Client", "MemoryTransport"]

PATIENCE_S = 60.0


class MemoryTransport(asyncio.Transport):
    """What the server writes goes to `take`, unless the reader stalls: then it piles up, and the server is
    told as a socket would tell it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[bytes], None], gone: Callable[[], None]
    ) -> None:
        super().__init__()
        self._loop = loop
        self._take = take
        self._gone = gone
        self._protocol: asyncio.BaseProtocol | None = None
        self._waiting = bytearray()
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._paused = False
        self._closing = False
        self._lost = False
        self.stalled = False
        self.most_waiting = 0

    # For the test

    def stall(self) -> None:
        self.stalled = True

    def go_on(self) -> None:
        self.stalled = False
        waiting, self._waiting = bytes(self._waiting), bytearray()
        if waiting:
            self._take(waiting)
        if self._paused:
            self._paused = False
            self._called().resume_writing()
        self._finish()

    def drop(self) -> None:
        """The network is gone, from one moment to the next."""
        self.abort()

    # For the server

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        if not self.stalled:
            self._take(bytes(data))
            return
        self._waiting += data
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        if len(self._waiting) > self._high and not self._paused:
            self._paused = True
            self._called().pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high
        self._low = self._low if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._called()

    def _called(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._closing

    def pause_reading(self) -> None:
        """The test sends little: what comes in a pause is kept by the server's own bounds."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def close(self) -> None:
        self._closing = True
        self._finish()

    def abort(self) -> None:
        self._closing = True
        self._waiting.clear()
        self._finish()

    def _finish(self) -> None:
        if self._closing and not self._waiting and not self._lost:
            self._lost = True
            self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        protocol = self._called()
        assert isinstance(protocol, asyncio.Protocol)
        protocol.connection_lost(None)
        self._gone()


class Client:
    """One connection of one user: applies what it is told, strictly."""

    def __init__(self, gateway: Gateway, user: str, on_state: Callable[[Client], None]) -> None:
        self.user = user
        self.cursor: str | None = None
        self.state = FeedState()
        self.closed = anyio.Event()
        self.close_code: int | None = None
        self.wrong: AssertionError | None = None
        """The first thing it was told that must not be."""
        self._gateway = gateway
        self._on_state = on_state
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = anyio.Event()
        self._number = 0
        self.transport: MemoryTransport
        self._protocol: ClientProtocol

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        return tuple((item.id, str(item.data["text"])) for item in self.state.items)

    def connect(self, token: str, query: str) -> None:
        """Opens it; the upgrade and the first frames come while the loop runs."""
        uri = parse_uri(f"ws://127.0.0.1/v1/feed?{query}")
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol("freya.v1")], max_size=2**20)
        self.transport = MemoryTransport(asyncio.get_running_loop(), self._take, self.closed.set)
        greeting = Greeting(self._gateway, ListenerKind.LOOPBACK, counts_address=False)
        self.transport.set_protocol(greeting)
        greeting.connection_made(self.transport)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        self._flush()

    def request(self, method: str, **params: object) -> int:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self._protocol.send_text(orjson.dumps(message))
        self._flush()
        return self._number

    async def answer(self, number: int) -> dict[str, Any] | None:
        """The answer, or None where the connection ended before it."""
        with anyio.fail_after(PATIENCE_S):
            while number not in self._answers and not self.closed.is_set():
                self._answered = anyio.Event()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._wake_on_close, tasks.cancel_scope)
                    await self._answered.wait()
                    tasks.cancel_scope.cancel()
        return self._answers.pop(number, None)

    async def _wake_on_close(self, scope: anyio.CancelScope) -> None:
        await self.closed.wait()
        scope.cancel()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            protocol = self.transport.get_protocol()
            assert isinstance(protocol, asyncio.Protocol)
            if data and not self.transport.is_closing():
                protocol.data_received(data)

    def _take(self, data: bytes) -> None:
        try:
            self._read(data)
        except AssertionError as wrong:
            # Called from inside the server's own write: raised there, it would be the server's trouble.
            self.wrong = self.wrong or wrong
        # Pongs, and our half of a close. Not from inside the server's own write.
        asyncio.get_running_loop().call_soon(self._flush)

    def _read(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                assert self._protocol.handshake_exc is None, self._protocol.handshake_exc
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._message(orjson.loads(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                self.close_code = self._protocol.close_code

    def _message(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params")
        if method is None:
            whole: JsonObject = message.get("result", {})
            if "items" in whole:
                # What feed.get answers on a followed feed is one more revision of it.
                self._become(FeedState.from_wire(whole), str(whole["cursor"]))
            self._answers[message["id"]] = message
            self._answered.set()
        elif method == "feed.snapshot":
            assert params is not None
            self._become(FeedState.from_wire(params), params["cursor"])
        elif method == "feed.delta":
            assert params is not None
            assert params["base"] == self.cursor, f"{self.user}: a delta from a state that it was not told"
            self._become(apply(self.state, Delta.from_wire(params)), params["cursor"])

    def _become(self, state: FeedState, cursor: str) -> None:
        self.state, self.cursor = state, cursor
        self._on_state(self)
