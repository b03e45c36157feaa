"""Rubbish that is nearly right: a client's messages and frames, damaged. The same number, the same bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

from tests.push.peers import masked

__all__ = ["DEFLATE", "SEEDS", "frames", "pieces", "text"]

DEFLATE = (
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
)

SEEDS = (
    b'{"jsonrpc":"2.0","id":1,"method":"connection.ping"}',
    b'{"jsonrpc":"2.0","id":"x","method":"connection.info","params":{}}',
    b'{"jsonrpc":"2.0","method":"feed.ack","params":{"feed":"rubbish","cursor":"abc"}}',
    b'{"jsonrpc":"2.0","id":2,"method":"feed.get","params":{"feed":"rubbish"}}',
    b'{"jsonrpc":"2.0","id":3,"method":"feed.subscribe","params":{"feeds":[{"feed":"bob","since":"abc"}]}}',
    b'{"jsonrpc":"2.0","id":4,"method":"source.list","params":{"schemas":true}}',
    b'{"jsonrpc":"2.0","id":5,"method":"source.patch","params":{"sourceId":"freya.clock","config":{"a":[1]}}}',
    b'{"jsonrpc":"2.0","id":6,"method":"source.put","params":{"sourceId":"freya.inbox","enabled":true}}',
    b'{"jsonrpc":"2.0","id":7,"method":"item.publish","params":{"feed":"bob","items":[{"id":"1","type":"t"}]}}',
    b'{"jsonrpc":"2.0","id":8,"method":"connection.renew","params":{"token":"a.b.c"}}',
    b'{"jsonrpc":"2.0","id":9,"method":"connection.background","params":{"keepMs":1}}',
    b'{"jsonrpc":"2.0","id":10,"result":{}}',
    b'[{"jsonrpc":"2.0","id":1,"method":"connection.ping"}]',
    '{"jsonrpc":"2.0","id":"ü","method":"item.dismiss","params":{"id":"\\u0000\\ud800"}}'.encode(),
)

_SPLINTERS = (
    b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"9" * 25, b"1e400", b"-0", b"[" * 80,
    b'{"a":' * 70, b"}", b"]", b'"', b"null", b"NaN", b',"id":1', b',"params":[]', b"\n", b"\xef\xbb\xbf",
)  # fmt: skip


def text(rng: Random) -> bytes:
    """The payload of a message: a seed with some damage, or bytes of any kind."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        until = min(len(data), at + rng.choice((0, 0, 1, 3, 20)))
        data[at:until] = rng.choice((rng.choice(_SPLINTERS), rng.randbytes(1), rng.choice(SEEDS)[:30]))
    return bytes(data)


def frames(rng: Random) -> bytes:
    """A few frames, one after another; most of them are well formed."""
    return b"".join(_frame(rng) for _ in range(rng.randrange(1, 6)))


def _frame(rng: Random) -> bytes:
    payload = text(rng)
    match rng.randrange(10):
        case 0:
            at = rng.randrange(len(payload) + 1)
            last = rng.choice((0, 0, 0, 1, 9))
            return masked(payload[:at], fin=False) + masked(payload[at:], opcode=last)
        case 1:
            return masked(payload[:125], opcode=rng.choice((8, 9, 10)))
        case 2:
            return masked(_deflated(payload), rsv1=True)
        case 3:
            return masked(payload, opcode=rng.randrange(16), fin=rng.random() < 0.5, rsv1=rng.random() < 0.5)
        case 4:
            frame = bytearray(masked(payload))
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            return bytes(frame)
        case 5:
            return masked(payload)[: rng.randrange(1, 20)]
        case _:
            return masked(payload)


def _deflated(payload: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return (encoder.compress(payload) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


def pieces(rng: Random, data: bytes) -> Iterator[bytes]:
    """The same bytes, cut anywhere."""
    while data:
        size = rng.choice((1, 2, 7, 50, len(data)))
        yield data[:size]
        data = data[size:]
