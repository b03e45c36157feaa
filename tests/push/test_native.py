"""The loop in C on sockets of its own, and which sockets it may have."""

from __future__ import annotations

import asyncio
import os
import socket
from array import array
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from server.build_native import NoCompiler, build, main
from server.push.native import SendAll, load, plain_descriptor
from server.settings import Settings

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("native") / "deeper" / "fanout_loop.so"
    try:
        build(made)
    except NoCompiler as why:
        pytest.skip(f"the fan-out's loop in C is not tested: {why}")
    return made


@pytest.fixture
def send_all(library: Path) -> SendAll:
    return load(library)


@pytest.fixture
def pairs() -> Generator[list[Pair]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(3)]
        for ours, theirs in made:
            ours.setblocking(False)
            stack.enter_context(ours)
            stack.enter_context(theirs)
        yield made


def descriptors(pairs: list[Pair]) -> array[int]:
    return array("i", [ours.fileno() for ours, _ in pairs])


def test_all_get_the_same_bytes(send_all: SendAll, pairs: list[Pair]) -> None:
    assert send_all(descriptors(pairs), b"one") == []
    assert send_all(descriptors(pairs), b"two") == []
    assert [theirs.recv(100) for _, theirs in pairs] == [b"onetwo"] * 3


def test_a_full_socket_is_named_with_what_it_took_and_holds_nobody_up(
    send_all: SendAll, pairs: list[Pair]
) -> None:
    frame = b"x" * 50_000
    took = 0
    while not (rest := send_all(descriptors(pairs[1:2]), frame)):
        took += len(frame)
    [(place, sent)] = rest
    assert (place, 0 <= sent < len(frame)) == (0, True)
    assert send_all(descriptors(pairs), b"more") == [(1, 0)]
    assert [pairs[0][1].recv(100), pairs[2][1].recv(100)] == [b"more", b"more"]
    received = 0
    pairs[1][1].settimeout(20)
    while received < took + sent:
        received += len(pairs[1][1].recv(1 << 20))
    assert received == took + sent


def test_a_socket_without_a_peer_takes_nothing_and_raises_no_signal(
    send_all: SendAll, pairs: list[Pair]
) -> None:
    pairs[0][1].close()
    assert send_all(descriptors(pairs), b"to two") == [(0, 0)]


def test_a_place_without_a_descriptor_is_left_to_its_transport(send_all: SendAll, pairs: list[Pair]) -> None:
    assert send_all(array("i", [-1, pairs[0][0].fileno()]), b"frame") == [(0, 0)]
    assert send_all(array("i"), b"frame") == []


async def _connected() -> tuple[asyncio.Transport, int]:
    """A client's transport on this loop, and its descriptor as the system knows it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(asyncio.Protocol, *address)
    server.close()
    return transport, transport.get_extra_info("socket").fileno()


async def test_only_plain_sockets_of_uvloop_are_written_to_past_their_transport() -> None:
    transport, _ = await _connected()
    assert plain_descriptor(transport) == -1
    transport.abort()


@pytest.mark.loop("uvloop")
async def test_a_plain_socket_of_uvloop_stays_open_until_its_protocol_has_heard_of_the_end() -> None:
    """What lets a number stand for a socket: it is nobody else's before `connection_lost` has returned."""
    transport, expected = await _connected()
    assert plain_descriptor(transport) == expected
    open_at_the_end = asyncio.get_running_loop().create_future()

    class Last(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            with socket.socket(fileno=os.dup(expected)) as still:
                open_at_the_end.set_result(still.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))

    transport.set_protocol(Last())
    transport.abort()
    async with asyncio.timeout(20):
        assert await open_at_the_end == socket.SOCK_STREAM
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


def test_a_file_that_is_no_library_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "none.so").write_text("nothing of the kind")
    for name in ("none.so", "missing.so"):
        with pytest.raises(ImportError):
            load(tmp_path / name)


def test_the_builder_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(tmp_path / "fanout_loop.so")])
    said = capsys.readouterr()
    assert (code, "FREYA_NATIVE_FANOUT=" in said.out) == (0, True) or (code, "not built" in said.err) == (
        1,
        True,
    )
    assert "FREYA_NATIVE_FANOUT" in Settings.variables()
    assert main([]) == 2
