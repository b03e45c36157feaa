"""Attacks that go on for a while, each from a process of its own against a server in another."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import cache
from time import monotonic
from typing import Any, Final, TypeAlias

import anyio

from tests.push.peers import RawPeer, masked, open_raw

__all__ = ["ATTACKS", "Attack", "lay_siege"]

Attack: TypeAlias = Callable[["Siege"], Coroutine[Any, Any, None]]

_DEFLATE: Final = (
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
)
_ABREAST: Final = 16
_LISTENS_S: Final = 0.005
_GONE: Final = (OSError, EOFError, AssertionError, TimeoutError, asyncio.IncompleteReadError, struct.error)


class Siege:
    """Who is attacked, until when, and how much was sent."""

    def __init__(self, address: str, token: str, until_s: float, at_least: int) -> None:
        self.address = address
        self.token = token
        self.until_s = until_s
        self.at_least = at_least
        self.sent = 0

    @property
    def goes_on(self) -> bool:
        """Whether it is to be kept up: the time is not over, or not enough was sent."""
        return monotonic() < self.until_s or self.sent < self.at_least

    async def again_and_again(self, once: Callable[[RawPeer], Awaitable[None]], headers: str = "") -> None:
        """Connects, and does it, over and over."""
        while self.goes_on:
            with suppress(*_GONE):
                async with open_raw(
                    self.address, self.token, query="?own=0&settings=0", headers=headers
                ) as peer:
                    await once(peer)

    async def pour(self, peer: RawPeer, data: bytes, messages: int) -> None:
        """Sends that many messages at once, over and over, until the other end has had enough."""
        while self.goes_on:
            await peer.send(data)
            self.sent += messages
            with anyio.move_on_after(_LISTENS_S):
                # What comes back is thrown away; where nothing will any more, it has ended.
                if not await peer.reader.read(65_536):
                    return


async def bad_messages(siege: Siege) -> None:
    """Messages that are no JSON, hundreds in a write."""
    data = masked(b"{nonsense") * 500
    await siege.again_and_again(lambda peer: siege.pour(peer, data, 500))


async def deep_messages(siege: Siege) -> None:
    """JSON that nests ten thousand deep, and names of 60 KB."""
    deep = masked(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    long = masked(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 60_000 + b'"}')
    await siege.again_and_again(lambda peer: siege.pour(peer, deep + long, 2))


async def pings(siege: Siege) -> None:
    """Pings, thousands in a write."""
    data = masked(b"", opcode=9) * 2_000
    await siege.again_and_again(lambda peer: siege.pour(peer, data, 2_000))


async def fragments(siege: Siege) -> None:
    """A message in fragments of one byte, that never ends."""
    data = masked(b"x", opcode=0, fin=False) * 2_000

    async def once(peer: RawPeer) -> None:
        await peer.send(masked(b"x", fin=False))
        await siege.pour(peer, data, 2_000)

    await siege.again_and_again(once)


async def bombs(siege: Siege) -> None:
    """40 MB of nothing in 40 KB."""
    data = masked(_bomb(), rsv1=True)
    await siege.again_and_again(lambda peer: siege.pour(peer, data, 1), headers=_DEFLATE)


@cache
def _bomb() -> bytes:
    encoder = zlib.compressobj(level=9, wbits=-15)
    return (encoder.compress(bytes(40_000_000)) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def changes_of_mind(siege: Siege) -> None:
    """Subscribe and unsubscribe, as often as the allowance lets, and then more often."""
    pair = b"".join(
        masked(b'{"jsonrpc":"2.0","id":%d,"method":"feed.%b","params":{"feeds":[%b]}}' % (number, verb, feed))
        for number, (verb, feed) in enumerate(
            ((b"subscribe", b'{"feed":"mallory"}'), (b"unsubscribe", b'"mallory"'))
        )
    )
    await siege.again_and_again(lambda peer: siege.pour(peer, pair * 10, 20))


async def comings_and_goings(siege: Siege) -> None:
    """Connections that leave as soon as they are in."""

    async def once(peer: RawPeer) -> None:
        siege.sent += 1

    await siege.again_and_again(once)


async def slow_heads(siege: Siege) -> None:
    """Sockets that say their request a byte at a time, hundreds of them."""

    async def one() -> None:
        while siege.goes_on:
            with suppress(*_GONE):
                async with open_raw(siege.address, upgrade=False) as peer:
                    siege.sent += 1
                    for byte in b"GET /v1/feed HTTP/1.1\r\nHost: " + b"a" * 1_000:
                        await peer.send(bytes([byte]))
                        await anyio.sleep(0.2)
                        if not siege.goes_on:
                            return

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)


ATTACKS: Final[dict[str, Attack]] = {
    attack.__name__.replace("_", " "): attack
    for attack in (
        bad_messages,
        deep_messages,
        pings,
        fragments,
        bombs,
        changes_of_mind,
        comings_and_goings,
        slow_heads,
    )
}


async def lay_siege(name: str, address: str, token: str, seconds: float, at_least: int) -> int:
    """Attacks in that way for so long, and until so much was sent; how much it was."""
    siege = Siege(address, token, monotonic() + seconds, at_least)
    async with anyio.create_task_group() as group:
        for _ in range(_ABREAST):
            group.start_soon(ATTACKS[name], siege)
    return siege.sent
