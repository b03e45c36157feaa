"""Frames go out as the library would have built them, and compressed ones fit every client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from server.push.frames import DEFLATE_WINDOW_BITS, PING_FRAME, Message, pong_frame, text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 700_000])
def test_a_text_frame_is_the_librarys_at_every_length_of_length(size: int) -> None:
    payload = b"x" * size
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_pings_and_pongs_are_the_librarys() -> None:
    assert Frame(Opcode.PING, b"").serialize(mask=False) == PING_FRAME
    assert pong_frame(b"again") == Frame(Opcode.PONG, b"again").serialize(mask=False)


def inflated(frame: bytes) -> bytes:
    """The frame as a client reads it that agreed to our one window."""
    size = frame[1] & 0x7F
    data = frame[{126: 4, 127: 10}.get(size, 2) :]
    client = PerMessageDeflate(True, True, DEFLATE_WINDOW_BITS, 15)
    return bytes(client.decode(Frame(Opcode.TEXT, data, rsv1=bool(frame[0] & 0x40)), max_size=2**20).data)


@given(st.lists(st.sampled_from([b'{"text":"rain"}', b"snow", b"\xc3\xa4", b"0123456789"]), max_size=400))
def test_a_client_reads_a_compressed_frame_whole(parts: list[bytes]) -> None:
    payload = b"".join(parts)
    assert inflated(Message(payload).frame(deflate=True)) == payload


def test_under_300_bytes_nothing_is_compressed() -> None:
    assert Message(b"x" * 299).frame(deflate=True) == Message(b"x" * 299).frame(deflate=False)
    assert Message(b"x" * 300).frame(deflate=True) != Message(b"x" * 300).frame(deflate=False)


def test_what_does_not_shrink_goes_out_as_it_is() -> None:
    import random

    noise = random.Random(1).randbytes(1000)
    assert Message(noise).frame(deflate=True) == text_frame(noise)


def test_a_message_is_framed_and_compressed_once_for_all() -> None:
    message = Message(b"x" * 1000)
    assert message.frame(deflate=True) is message.frame(deflate=True)
    assert message.frame(deflate=False) is message.frame(deflate=False)
