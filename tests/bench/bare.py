"""What the benchmarks compare with: the least that Python on uvloop can do for the same deliveries.

    python -m tests.bench.bare fanout RATE BYTES     one prebuilt frame to every socket, RATE times a second
    python -m tests.bench.bare own RATE              each socket's own feed of 8 items: one is replaced, the
                                                     difference encoded (items by identity), framed, written

Prints the port it listens on. The handshake is a fixed answer: the driver's links believe any 101.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import orjson
import uvloop

__all__ = ["Socket", "main", "update"]

_ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_ITEMS = 8


class Socket(asyncio.Protocol):
    """One client, and what is the least to be known of its feed."""

    __slots__ = ("_sockets", "cursor", "items", "transport")

    def __init__(self, sockets: list[Socket]) -> None:
        self.cursor = 0
        self.items: list[dict[str, object]] = []
        self._sockets = sockets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):
            self.transport.write(_ANSWER + frame(b'{"method":"feed.snapshot"}'))
            self._sockets.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._sockets:
            self._sockets.remove(self)


def frame(payload: bytes) -> bytes:
    """One whole text frame."""
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else bytes((0x81, 126, size >> 8, size & 0xFF))
    return head + payload


async def fanout(sockets: list[Socket], rate: float, size: int) -> None:
    """Writes the same bytes to all of them."""
    payload = frame(b'{"method":"feed.delta","params":"' + b"x" * (size - 35) + b'"}')
    began, number = time.monotonic(), 0
    while True:
        number += 1
        await asyncio.sleep(began + number / rate - time.monotonic())
        for socket in sockets:
            socket.transport.write(payload)


async def own(sockets: list[Socket], rate: float) -> None:
    """Replaces one item of each feed RATE times a second, each at its own moment."""
    began, number = time.monotonic(), 0
    while True:
        if not sockets:
            await asyncio.sleep(0.01)
            began = time.monotonic()
            continue
        number += 1
        began_in_s = began + number / (rate * len(sockets)) - time.monotonic()
        if began_in_s > 0:
            await asyncio.sleep(began_in_s)
        if sockets:  # all may have gone meanwhile
            update(sockets[number % len(sockets)])


def update(socket: Socket) -> None:
    if not socket.items:
        socket.items = [_item(index, 0) for index in range(_ITEMS)]
    index = socket.cursor % _ITEMS
    item = _item(index, socket.cursor)
    items = [*socket.items[:index], item, *socket.items[index + 1 :]]
    put = [
        {"index": place, "item": orjson.Fragment(orjson.dumps(now, option=orjson.OPT_SORT_KEYS))}
        for place, (was, now) in enumerate(zip(socket.items, items, strict=True))
        if was is not now
    ]
    socket.items = items
    params = {"feed": "u", "base": str(socket.cursor), "cursor": str(socket.cursor + 1), "put": put}
    socket.cursor += 1
    socket.transport.write(frame(orjson.dumps({"method": "feed.delta", "params": params})))


def _item(index: int, tick: int) -> dict[str, object]:
    data = {"tick": tick, "dueMs": 0, "text": "the quick brown fox jumps over the lazy dog and so on, 60 b"}
    return {
        "id": f"freya.synthetic/{index}",
        "sourceId": "freya.synthetic",
        "type": "synthetic",
        "timestamp": "2026-01-01T00:00:00Z",
        "data": data,
    }


async def _serve(arguments: list[str]) -> None:
    sockets: list[Socket] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Socket(sockets), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    if arguments[0] == "fanout":
        await fanout(sockets, float(arguments[1]), int(arguments[2]))
    else:
        await own(sockets, float(arguments[1]))


def main(arguments: list[str]) -> None:
    """Serves until it is killed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
