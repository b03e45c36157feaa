"""The socket itself: fragments, control frames, broken framing, closes, clients that go without a word."""

from __future__ import annotations

import asyncio
import socket
import struct

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from server.push import PushOptions
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import RawPeer, masked, open_peer, open_raw
from tests.support.clock import TestClock

CALM = "?own=0"
PING = orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": "connection.ping"})


async def answered(peer: RawPeer) -> None:
    """The reply to PING comes."""
    assert (await peer.message())["id"] == 7


async def flood(peer: RawPeer, data: bytes) -> None:
    """Sends until the other end has had enough."""
    while True:
        await peer.send(data)
        await anyio.lowlevel.checkpoint()


async def gone(server: Server) -> None:
    """Nothing is left of any connection, its socket included."""
    with anyio.fail_after(10):
        await server.gateway.registry.wait_empty()


async def test_a_message_may_come_in_fragments_with_pings_between(server: Server) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(
            masked(PING[:10], fin=False) + masked(b"now", opcode=9) + masked(PING[10:20], opcode=0, fin=False)
        )
        assert await peer.frame() == (0x8A, b"now")
        await peer.send(masked(PING[20:], opcode=0))
        await answered(peer)


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 7, 20])
async def test_a_frame_may_come_in_pieces(server: Server, cut: int) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        frame = masked(PING)
        await peer.send(frame[:cut])
        await anyio.wait_all_tasks_blocked()
        await peer.send(frame[cut:] + masked(PING))
        await answered(peer)
        await answered(peer)


async def test_many_messages_in_one_read_are_all_answered_in_order(server: Server) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        pings = [{"jsonrpc": "2.0", "id": number, "method": "connection.ping"} for number in range(90)]
        await peer.send(b"".join([masked(orjson.dumps(ping)) for ping in pings]))
        assert [(await peer.message())["id"] for _ in pings] == list(range(90))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x83\x80abcd", 1002),
        (b"\x81\x05hello", 1002),
        (masked(b"x", opcode=0), 1002),
        (masked(b"x" * 126, opcode=9), 1002),
        (masked(b"\xff\xfe"), 1007),
        (masked(b"\xc3", fin=False) + masked(b"x", opcode=0), 1007),
        (masked(b"x" * 65_537), 1009),
        (b"\x81\xff" + struct.pack("!Q", 2**62) + b"abcd", 1009),
        (masked(b"x" * 65_000, fin=False) + masked(b"x" * 1000, opcode=0), 1009),
        (masked(struct.pack("!H", 4000) + b"bye", opcode=8), 4000),
        (masked(b"", opcode=8), 1005),
    ],
    ids=[
        "unknown opcode",
        "not masked",
        "continuation of nothing",
        "control frame too long",
        "not UTF-8",
        "not UTF-8 over fragments",
        "a frame too big",
        "a size beyond all bounds",
        "fragments too big",
        "close with a code",
        "close without one",
    ],
)
async def test_a_broken_or_closing_client_gets_the_right_close_frame(
    server: Server, data: bytes, code: int
) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(data)
        assert (await peer.close_frame())[0] == code
        assert await peer.rest() == b""
    await gone(server)


async def test_a_message_of_exactly_64_kib_is_read(server: Server) -> None:
    request = {"jsonrpc": "2.0", "id": 7, "method": "no.such", "params": {"pad": ""}}
    pad = 65_536 - len(orjson.dumps(request))
    request["params"] = {"pad": "x" * pad}
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(masked(orjson.dumps(request)))
        assert (await peer.message())["error"]["code"] == -32601


async def test_nothing_is_written_after_a_close_frame(server: Server) -> None:
    """Replies and feed changes that were on their way when the client closed stay unsaid."""
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        server.board.show(ALICE, a="one")
        await peer.send(masked(PING) + masked(struct.pack("!H", 1000), opcode=8))
        server.board.show(ALICE, a="two")
        rest = await peer.rest()
        assert rest.endswith(b"\x88\x02\x03\xe8")
    await gone(server)


async def test_the_server_waits_for_the_clients_close_frame_but_not_for_ever(slow_world: World) -> None:
    server = await slow_world.start(options=PushOptions(close_timeout_s=5.0))
    assert isinstance(server.clock, TestClock)
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        [connection] = server.gateway.registry
        connection.close(4401, "why")
        assert await peer.close_frame() == (4401, "why")
        await peer.send(masked(PING))
        await server.clock.advance(4.5, quiet_s=0.05)
        assert server.gateway.statistics().closing == 1
        await server.clock.advance(1.0, quiet_s=0.05)
        assert await peer.rest() == b""
        assert server.gateway.statistics().closing == 0


async def test_a_client_that_answers_the_close_is_let_go_at_once(server: Server) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        [connection] = server.gateway.registry
        connection.close(4403, "revoked")
        assert await peer.close_frame() == (4403, "revoked")
        await peer.send(masked(struct.pack("!H", 4403), opcode=8))
        assert await peer.rest() == b""
        peer.writer.close()
        await gone(server)


async def test_a_client_that_floods_after_the_close_is_cut(server: Server) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        [connection] = server.gateway.registry
        connection.close(4400)
        with pytest.raises(ConnectionError), anyio.fail_after(10):
            await flood(peer, masked(b"x" * 60_000))
    await gone(server)


@pytest.mark.loop("asyncio", "uvloop")
async def test_clients_that_vanish_leave_nothing_behind_and_nothing_in_the_log(server: Server) -> None:
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:

            async def vanish(number: int) -> None:
                async with open_raw(server.address, server.token(f"user-{number % 7}")) as peer:
                    await peer.until("feed.snapshot")
                    await peer.send(masked(PING))
                    raw: socket.socket = peer.writer.get_extra_info("socket")
                    # RST instead of FIN: the harshest end there is.
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", number % 2, 0))

            for number in range(25):
                group.start_soon(vanish, number)
        await gone(server)
    assert [log for log in logs if log["log_level"] in {"error", "warning", "critical"}] == []
    statistics = server.gateway.statistics()
    assert (statistics.connections, statistics.subscriptions, statistics.feeds) == (0, 0, 0)
    assert statistics.closed == {1006: 25}


async def test_half_a_close_of_the_tcp_link_is_the_end(server: Server) -> None:
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        peer.writer.write_eof()
        await peer.rest()
    await gone(server)
    assert server.gateway.statistics().closed == {1006: 1}


@pytest.mark.parametrize("opcode", [9, 10])
async def test_a_flood_of_control_frames_ends_in_4429_and_hurts_nobody(world: World, opcode: int) -> None:
    server = await world.start(options=PushOptions(frames_per_s=100.0, frame_burst=1000))
    async with (
        open_peer(server.address, server.token("bob"), query=CALM) as bob,
        open_raw(server.address, server.token(), query=CALM) as peer,
    ):
        await peer.until("connection.welcome")
        await peer.send(masked(b"", opcode=opcode) * 5000)
        assert (await peer.close_frame())[0] == 4429
        await bob.call("connection.ping")
    assert server.gateway.statistics().limits == {"frames_per_s": 1}


async def test_a_flood_of_tiny_fragments_ends_in_4429(world: World) -> None:
    server = await world.start(options=PushOptions(frames_per_s=100.0, frame_burst=1000))
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(masked(b"", fin=False) + masked(b"", opcode=0, fin=False) * 5000)
        assert (await peer.close_frame())[0] == 4429


@pytest.mark.parametrize("payload", [b'"' + b"x" * 20_000 + b'"', b'"' + b"x" * 70_000 + b'"'])
async def test_a_message_past_the_bound_of_its_setting_ends_in_1009(world: World, payload: bytes) -> None:
    server = await world.start(options=PushOptions(max_message_bytes=16_384))
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        welcome = await peer.until("connection.welcome")
        assert welcome["limits"]["maxMessageBytes"] == 16_384
        await peer.send(masked(payload))
        assert (await peer.close_frame())[0] == 1009
    assert server.gateway.statistics().limits == {"max_message_bytes": 1}


async def test_a_message_that_comes_in_drops_is_not_waited_for_without_end(slow_world: World) -> None:
    server = await slow_world.start(options=PushOptions(message_timeout_s=60.0))
    assert isinstance(server.clock, TestClock)
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        # Whole messages, however long it goes on, are no reason.
        for _ in range(5):
            await peer.send(masked(PING[:9], fin=False))
            await server.clock.advance(20.0, quiet_s=0.01)
            await peer.send(masked(PING[9:], opcode=0))
            await server.clock.settle(quiet_s=0.01)
        for byte in masked(PING)[:6]:
            await peer.send(bytes([byte]))
            await server.clock.advance(15.0, quiet_s=0.01)
        assert (await peer.close_frame()) == (4408, "a message took too long")


async def test_a_read_full_of_tiny_messages_does_not_keep_the_others_waiting(world: World) -> None:
    """Tens of thousands of frames in one read: others are served in between."""
    options = PushOptions(
        frames_per_s=1e6, frame_burst=10**6, requests_per_s=1e6, request_burst=10**6, max_strikes=10**6
    )
    server = await world.start(options=options)
    async with (
        open_peer(server.address, server.token("bob"), query=CALM) as bob,
        open_raw(server.address, server.token(), query=CALM) as peer,
    ):
        await peer.until("connection.welcome")
        await peer.send(masked(b"{}") * 20_000)
        await bob.call("connection.ping")
        assert server.gateway.statistics().bad_messages < 20_000
        for _ in range(100):
            assert (await peer.message())["error"]["code"] == -32600


async def test_an_idle_connection_has_no_parser_no_outbox_and_no_requests(server: Server) -> None:
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        [connection] = server.gateway.registry
        await peer.send(masked(PING[:10], fin=False))
        await asyncio.sleep(0)
        await peer.send(masked(PING[10:], opcode=0))
        while (await peer.message()).get("id") != 7:
            pass
        await peer.send(masked(b"", opcode=10) + masked(b"now", opcode=9))
        while await peer.frame() != (0x8A, b"now"):
            pass
        assert connection._inflow is None  # pyright: ignore[reportPrivateUsage] -- what must not be there
        assert connection._outbox is None  # pyright: ignore[reportPrivateUsage] -- as above
        assert connection.quick
