"""What must hold whatever comes. Each takes a number that all its rubbish follows from, and fails with an
AssertionError, or with whatever came out that should not have."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from protocol.jsonrpc import FrameError, parse
from server.push.inbound import Control, Event, FrameParser, Text, read_small
from tests.fuzz.rubbish import DEFLATE, frames, pieces, text
from tests.push.peers import Peer, open_raw

__all__ = ["parse_frames", "parser", "read_message", "reader", "socket"]


def reader(number: int) -> None:
    """`read_message`, with the rubbish of that number."""
    read_message(text(Random(number)))


def read_message(data: bytes) -> None:
    """Any text is a message, or an error that may be sent as it is."""
    assert _code(data) in {0, -32700, -32600, -32602}


def parser(number: int) -> None:
    """`parse_frames`, with the rubbish of that number."""
    rng = Random(number)
    parse_frames(frames(rng), rng, deflate=rng.random() < 0.5)


def parse_frames(data: bytes, rng: Random, *, deflate: bool) -> None:
    """Bytes become the same events however they are cut, and the quick reader agrees with the parser."""
    whole, cut = FrameParser(deflate=deflate), FrameParser(deflate=deflate)
    expected = whole.receive(data)
    assert [event for piece in pieces(rng, data) for event in cut.receive(piece)] == expected
    assert cut.over == whole.over
    if (payload := read_small(data)) is not None:
        quick: Event = Text(payload) if payload else Control()
        assert expected == [quick]


def _code(data: bytes) -> int:
    try:
        parse(data)
    except FrameError as wrong:
        return wrong.error.code
    return 0


async def socket(number: int, address: str, token: str, neighbour: Peer) -> None:
    """A connection that sends rubbish is nobody else's business: the neighbour is answered."""
    rng = Random(number)
    headers = DEFLATE if rng.random() < 0.5 else ""
    async with open_raw(address, token, query="?own=0", headers=headers) as peer:
        # The server may have closed by then, and is right to.
        with suppress(ConnectionError):
            for piece in pieces(rng, frames(rng)):
                await peer.send(piece)
        await neighbour.call("connection.ping")
