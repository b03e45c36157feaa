"""Bytes become messages in one way, whichever reader takes them and however they are cut."""

from __future__ import annotations

import gc
import weakref
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.push.inbound import Broken, Control, Event, FrameParser, Goodbye, Text, read_small
from tests.push.peers import masked


def parsed(data: bytes, cut: int = 0) -> list[Event]:
    parser = FrameParser(deflate=True)
    if not cut:
        return parser.receive(data)
    return [event for at in range(0, len(data), cut) for event in parser.receive(data[at : at + cut])]


frames = st.one_of(
    st.builds(
        masked, st.binary(max_size=300), opcode=st.sampled_from([0, 1, 2, 8, 9, 10]), fin=st.booleans()
    ),
    st.builds(masked, st.binary(min_size=120, max_size=400)),
    st.binary(max_size=40),
)


@given(frames)
def test_the_quick_reader_takes_what_the_parser_takes_or_nothing(data: bytes) -> None:
    payload = read_small(data)
    if payload is None:
        return
    expected: list[Event] = [Text(payload)] if payload else [Control()]
    assert parsed(data) == expected


@given(st.binary(min_size=1, max_size=66_000))
def test_the_quick_reader_takes_every_whole_text_frame_under_64_kib(payload: bytes) -> None:
    payload = payload[:65535]
    assert read_small(masked(payload)) == payload


@pytest.mark.parametrize(
    "data",
    [
        masked(b"abc")[:-1],
        masked(b"abc") + b"\x81",
        masked(b"abc", fin=False),
        masked(b"abc", rsv1=True),
        masked(b"abc", opcode=2),
        masked(b"abc", opcode=9),
        b"\x81\x03abc",
        masked(b""),
        b"",
    ],
    ids=["cut", "more behind", "fragment", "compressed", "binary", "ping", "not masked", "empty", "nothing"],
)
def test_the_quick_reader_leaves_everything_else_to_the_parser(data: bytes) -> None:
    assert read_small(data) is None


@given(st.lists(frames, max_size=6), st.integers(1, 9))
def test_it_makes_no_difference_how_the_bytes_are_cut(chunks: list[bytes], cut: int) -> None:
    data = b"".join(chunks)
    assert parsed(data, cut) == parsed(data)


def test_fragments_become_one_message_with_control_frames_between_them() -> None:
    data = masked(b"one ", fin=False) + masked(b"hi", opcode=9) + masked(b"two", opcode=0)
    parser = FrameParser(deflate=False)
    assert parser.receive(data) == [Control(), Control(), Text(b"one two")]
    assert parser.to_send() == [b"\x8a\x02hi"]


def test_a_parser_may_be_dropped_between_messages_and_only_there() -> None:
    data = masked(b"one ", fin=False) + masked(b"two", opcode=0) + masked(b"three")
    parser = FrameParser(deflate=False)
    first, second = len(masked(b"one ")) + len(masked(b"two")), len(data)
    droppable: list[int] = []
    for at in range(len(data)):
        parser.receive(data[at : at + 1])
        if parser.between_messages:
            droppable.append(at + 1)
    assert droppable == [first, second]


def test_an_empty_binary_frame_is_a_ping_of_some_phones() -> None:
    assert parsed(masked(b"", opcode=2)) == [Control()]
    assert parsed(masked(b"x", opcode=2)) == [Broken(1)]


def test_compressed_messages_stand_alone() -> None:
    def deflated(text: bytes) -> bytes:
        encoder = zlib.compressobj(wbits=-15)
        return (encoder.compress(text) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]

    data = masked(deflated(b"rain" * 50), rsv1=True) + masked(deflated(b"snow" * 50), rsv1=True)
    assert parsed(data) == [Text(b"rain" * 50), Text(b"snow" * 50)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(b"\x03\xe8bye", opcode=8), 1000),
        (masked(b"", opcode=8), 1005),
        (masked(b"\x0f\xa0", opcode=8), 4000),
    ],
    ids=["1000", "none", "4000"],
)
def test_a_close_frame_is_a_goodbye_with_the_peers_code(data: bytes, code: int) -> None:
    parser = FrameParser(deflate=False)
    assert parser.receive(data) == [Goodbye(code, failed=False)]
    assert parser.peer_closed
    assert parser.to_send()[0][0] == 0x88


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x83\x80abcd", 1002),  # an opcode nobody defined
        (b"\x81\x05hello", 1002),  # not masked
        (b"\xc1\x80abcd", 1002),  # a reserved bit
        (masked(b"x", opcode=0), 1002),  # a continuation of nothing
        (masked(b"x" * 126, opcode=9), 1002),  # a control frame too long
        (masked(b"x", fin=False) + masked(b"y"), 1002),  # a message inside another
        (masked(b"\x03", opcode=8), 1002),  # half a close code
        (masked(b"\x03\xec", opcode=8), 1002),  # a code that is never sent
        (masked(b"x" * 65_537), 1009),
        (masked(b"x" * 40_000, fin=False) + masked(b"y" * 40_000, opcode=0), 1009),
        (masked(b"\x03\xe8\xff", opcode=8), 1007),
    ],
    ids=[
        "unknown opcode",
        "not masked",
        "reserved bit",
        "continuation of nothing",
        "control frame too long",
        "message inside another",
        "half a close code",
        "a code never sent",
        "frame too big",
        "fragments too big",
        "close reason not UTF-8",
    ],
)
def test_a_broken_stream_is_a_goodbye_with_our_code(data: bytes, code: int) -> None:
    parser = FrameParser(deflate=False)
    assert parser.receive(data)[-1] == Goodbye(code, failed=True)
    assert parser.over


def test_a_deflate_bomb_ends_at_64_kib() -> None:
    encoder = zlib.compressobj(wbits=-15, level=9)
    bomb = (encoder.compress(b"\0" * 30_000_000) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert parsed(masked(bomb, rsv1=True))[-1] == Goodbye(1009, failed=True)


def test_a_bomb_in_fragments_ends_at_64_kib() -> None:
    encoder = zlib.compressobj(wbits=-15, level=9)
    bomb = (encoder.compress(b"\0" * 30_000_000) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
    data = masked(bomb[:50], rsv1=True, fin=False)
    for at in range(50, 5000, 50):
        data += masked(bomb[at : at + 50], opcode=0, fin=False)
    assert parsed(data)[-1] == Goodbye(1009, failed=True)


def test_nothing_is_read_after_the_peers_close_frame() -> None:
    events = parsed(masked(b"one") + masked(b"\x03\xe8", opcode=8) + masked(b"two"))
    assert events == [Text(b"one"), Goodbye(1000, failed=False)]


def test_a_close_of_ours_waits_for_the_peers() -> None:
    parser = FrameParser(deflate=False)
    assert parser.close(4401, "why") == b"\x88\x05\x11\x31why"
    assert not parser.peer_closed
    parser.receive(masked(b"late"))
    assert not parser.peer_closed
    parser.receive(masked(b"\x11\x31", opcode=8))
    assert parser.peer_closed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        masked(b"whole"),
        masked(b"the first of two", fin=False),
        masked(b"cut off")[:7],
        masked(b"\xff" * 100, rsv1=True),
        b"\xff\xff nonsense",
        masked((1000).to_bytes(2), opcode=8),
    ],
    ids=["idle", "whole", "fragment", "cut off", "broken deflate", "nonsense", "closed"],
)
def test_a_parser_that_is_let_go_leaves_nothing_to_the_collector(data: bytes) -> None:
    gc.disable()
    try:
        parser = FrameParser(deflate=True)
        protocol = weakref.ref(parser._protocol)  # pyright: ignore[reportPrivateUsage] -- what must not stay
        parser.receive(data)
        parser.to_send()
        del parser
        assert protocol() is None
    finally:
        gc.enable()
