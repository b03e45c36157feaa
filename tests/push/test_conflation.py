"""Latest state wins: a slow connection is never an error, and never grows the server's memory."""

from __future__ import annotations

import anyio
import pytest

from protocol.ids import UserId
from server.push import PushOptions
from server.push.connection import Connection
from tests.push.board import BOARD
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, RawPeer, open_peer, open_raw
from tests.support.clock import TestClock

# Small buffers, so that a socket is full after a few frames.
TIGHT = PushOptions(unsent_low_bytes=4096, write_high_bytes=8192, write_low_bytes=1024)
LONG = "long text " * 800


def connections(server: Server, user: UserId = ALICE) -> list[Connection]:
    return list(server.gateway.registry.of(user))


# The kernel hands on what it has taken within a moment; only then is a full socket full for good.
QUIET_S = 0.1


async def fill(server: Server, connection: Connection, peer: RawPeer) -> int:
    """Changes the feed until the socket of that connection, whose peer stops reading, is full; how often."""
    peer.stall()
    number, left = 0, -1
    with anyio.fail_after(30):
        while connection.writable or left != connection.transport.get_write_buffer_size():
            while connection.writable:
                number += 1
                server.board.show(ALICE, a=f"{number} {LONG}", b="small")
                await anyio.lowlevel.checkpoint()
            left = connection.transport.get_write_buffer_size()
            await anyio.sleep(QUIET_S)
    return number


class RawFollower(Follower):
    """A follower on a bare socket, which reads only when it is told to."""

    def __init__(self, peer: RawPeer) -> None:
        super().__init__(_Reading(peer), ALICE)  # pyright: ignore[reportArgumentType] -- all it needs is `pick`


class _Reading:
    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer

    async def pick(self, wanted: object) -> object:
        assert callable(wanted)
        while not wanted(message := await self._peer.message()):
            pass
        return message


@pytest.mark.loop("asyncio", "uvloop")
async def test_a_slow_socket_gets_one_delta_when_it_drains(world: World) -> None:
    server = await world.start(options=TIGHT)
    async with open_raw(server.address, server.token()) as peer:
        feed = RawFollower(peer)
        await feed.step()
        [connection] = connections(server)
        sent = await fill(server, connection, peer)
        for number in range(50):
            server.board.show(ALICE, a=f"latest {number}", b="small", c="new")
            await anyio.lowlevel.checkpoint()
        assert server.gateway.statistics().unwritable == 1
        while feed.texts()[:1] != ["latest 49"]:
            await feed.step()
        # Those that fitted, and one for all the rest.
        assert feed.frames <= sent + 2
        session = server.manager.live(ALICE)
        assert session is not None
        assert feed.state == session.history.current.state
        assert server.gateway.statistics().conflated >= 49


async def test_memory_of_a_stalled_socket_does_not_grow(world: World) -> None:
    server = await world.start(options=TIGHT)
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        [connection] = connections(server)
        await fill(server, connection, peer)
        full = connection.transport.get_write_buffer_size()
        for number in range(500):
            server.board.show(ALICE, a=f"{number} {LONG}")
            await anyio.lowlevel.checkpoint()
        assert connection.transport.get_write_buffer_size() == full
        assert full < 64 * 1024


async def test_a_socket_that_missed_too_much_gets_a_snapshot(world: World) -> None:
    """The revision it last got has left the ring."""
    server = await world.start(options=TIGHT)
    async with open_raw(server.address, server.token()) as peer:
        feed = RawFollower(peer)
        await feed.step()
        [connection] = connections(server)
        await fill(server, connection, peer)
        for number in range(100):
            server.board.show(ALICE, a=str(number), b="small")
            await anyio.lowlevel.checkpoint()
        kinds: list[str] = []
        while feed.texts()[:1] != ["99"]:
            kinds.append(await feed.step())
        assert kinds[-1] == "feed.snapshot"


async def test_a_snapshot_goes_out_where_it_is_smaller_than_the_delta(server: Server) -> None:
    server.board.show(ALICE, **{f"n{number}": "text" for number in range(200)})
    async with open_peer(server.address, server.token()) as peer:
        feed = Follower(peer, ALICE)
        while len(feed.texts()) < 200:
            await feed.step()
        server.board.show(ALICE, last="one")
        assert await feed.step() == "feed.snapshot"
        assert feed.texts() == ["one"]


async def test_one_slow_socket_holds_nobody_up(world: World) -> None:
    server = await world.start(options=TIGHT)
    async with (
        open_raw(server.address, server.token()) as slow,
        open_peer(server.address, server.token()) as quick,
    ):
        await slow.until("feed.snapshot")
        feed = Follower(quick, ALICE)
        await feed.step()
        stalled = connections(server)[0]
        slow.stall()
        number = 0
        while stalled.writable:
            number += 1
            server.board.show(ALICE, a=f"{number} {LONG}")
            while feed.texts() != [f"{number} {LONG}"]:
                await feed.step()
        server.board.show(ALICE, a="after")
        await feed.step()
        assert feed.texts() == ["after"]


async def test_replies_and_source_states_wait_for_a_full_socket_and_stay_few(world: World) -> None:
    server = await world.start(options=TIGHT)
    async with (
        open_raw(server.address, server.token()) as peer,
        open_peer(server.address, server.token("alice"), query="?own=0&settings=0") as writer,
    ):
        await peer.until("feed.snapshot")
        [stalled] = [c for c in connections(server) if c.params.own]
        await fill(server, stalled, peer)
        for number in range(5):
            await writer.call("source.patch", {"sourceId": BOARD, "config": {"title": str(number)}})
        titles: list[object] = []
        while not titles or titles[-1] != "4":
            source = (await peer.until("source.changed"))["source"]
            titles.append(source["config"].get("title"))
        assert titles == ["4"]


async def test_a_minimal_interval_gives_at_most_one_delta_an_interval(slow_world: World) -> None:
    server = await slow_world.start()
    assert isinstance(server.clock, TestClock)
    async with open_peer(server.address, server.token(), query="?minIntervalMs=10000") as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        for number in range(25):
            server.board.show(ALICE, a=str(number))
            await server.clock.advance(1.0, quiet_s=0.005)
        await server.clock.advance(10.0, quiet_s=0.05)
        frames = feed.frames
        while feed.texts() != ["24"]:
            await feed.step()
        assert 2 <= feed.frames - frames <= 4


async def test_a_new_urgent_item_does_not_wait_for_the_interval(server: Server) -> None:
    server.board.urgencies = {"alarm": 0.8, "note": 0.79}
    async with open_peer(server.address, server.token(), query="?minIntervalMs=60000") as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        server.board.show(ALICE, note="wait")
        await peer.call("connection.ping")
        assert feed.texts() == []
        server.board.show(ALICE, note="wait", alarm="now")
        await feed.step()
        assert feed.texts() == ["wait", "now"]
        # Urgent, but not new any more.
        server.board.show(ALICE, note="wait", alarm="still")
        await peer.call("connection.ping")
        assert "feed.delta" not in peer.methods()


async def test_a_socket_whose_peer_takes_no_byte_for_long_is_dropped(slow_world: World) -> None:
    options = PushOptions(
        unsent_low_bytes=4096, write_high_bytes=8192, write_low_bytes=1024, stall_s=900.0, heartbeat_s=25.0
    )
    server = await slow_world.start(options=options)
    assert isinstance(server.clock, TestClock)
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        [connection] = connections(server)
        await fill(server, connection, peer)
        # Silent for much longer than a heartbeat, but we could not even ask.
        await server.clock.advance(800.0)
        assert connections(server) == [connection]
        await server.clock.advance(250.0)
        assert connections(server) == []
        statistics = server.gateway.statistics()
        assert (statistics.stuck, statistics.closed) == (1, {4408: 1})
        assert statistics.limits == {"stall_s": 1}
