"""What happens to a connection by itself: heartbeats, the background, the token's end, old age."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from server.push import PushOptions
from server.session.options import SessionOptions
from server.tokens.claims import TokenOptions
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, RawPeer, masked, open_peer, open_raw
from tests.support.clock import TestClock

# Chores of the sessions would only make the clock stop more often.
CALM = SessionOptions(look_every_s=1e6, save_every_s=1e6)


class Timed:
    """A server and the clock it lives by."""

    def __init__(self, server: Server, clock: TestClock) -> None:
        self.server = server
        self.clock = clock

    async def pass_(self, seconds: float) -> None:
        """Lets time go by, a quarter of a second at a time, so that answers get through."""
        await self.clock.advance(seconds, quiet_s=0.004)


@pytest.fixture
async def timed(slow_world: World) -> Timed:
    server = await slow_world.start(options=PushOptions(heartbeat_s=25.0), sessions=CALM)
    assert isinstance(server.clock, TestClock)
    return Timed(server, server.clock)


@asynccontextmanager
async def deaf(timed: Timed, *, query: str = "?own=0", token: str | None = None) -> AsyncGenerator[RawPeer]:
    """A client that never answers a ping."""
    async with open_raw(timed.server.address, token or timed.server.token(), query=query) as peer:
        await peer.until("connection.welcome")
        yield peer


async def test_the_server_pings_after_a_heartbeat_of_silence(timed: Timed) -> None:
    async with deaf(timed) as peer:
        await timed.pass_(26.0)
        assert await peer.frame() == (0x89, b"")


async def test_a_client_that_answers_pings_stays_for_ever(timed: Timed) -> None:
    async with open_peer(timed.server.address, timed.server.token(ttl_s=10**6), query="?own=0") as peer:
        await timed.pass_(500.0)
        await peer.call("connection.ping")
        assert peer.methods() == []


async def test_a_client_that_says_nothing_for_a_heartbeat_and_ten_seconds_is_closed_4408(
    timed: Timed,
) -> None:
    async with deaf(timed) as peer:
        await timed.pass_(34.0)
        assert timed.server.gateway.registry.count == 1
        await timed.pass_(2.0)
        assert (await peer.close_frame())[0] == 4408


async def test_any_byte_from_the_client_counts_as_life(timed: Timed) -> None:
    async with deaf(timed) as peer:
        for _ in range(4):
            await timed.pass_(30.0)
            await peer.send(masked(b"", opcode=2))
        await timed.clock.settle(quiet_s=0.05)
        assert timed.server.gateway.registry.count == 1


@pytest.mark.parametrize(("asked", "s"), [("1", 5.0), ("10000", 10.0), ("99999999", 300.0)])
async def test_the_heartbeat_is_the_clients_choice_within_bounds(timed: Timed, asked: str, s: float) -> None:
    async with deaf(timed, query=f"?own=0&heartbeatMs={asked}") as peer:
        await timed.pass_(s + 9.0)
        assert timed.server.gateway.registry.count == 1
        await timed.pass_(2.0)
        assert (await peer.close_frame())[0] == 4408


async def test_a_page_sees_the_heartbeat_as_a_message(timed: Timed) -> None:
    """A page's token comes as a subprotocol; it can't see pings."""
    async with open_peer(
        timed.server.address, timed.server.token(), query="?own=0", by_subprotocol=True
    ) as peer:
        await timed.pass_(26.0)
        assert (await peer.next("connection.beat")).keys() == {"at"}
        timed.server.gateway.set_degraded(("bus",), timed.clock.now())
        await timed.pass_(26.0)
        assert (await peer.next("connection.beat"))["degraded"] == ["bus"]


async def test_beat_and_ping_are_one_write(timed: Timed) -> None:
    async with deaf(timed, query="?own=0&beat=1") as peer:
        await timed.pass_(26.0)
        assert (await peer.frame())[0] == 0x89
        assert (await peer.message())["method"] == "connection.beat"


async def test_a_feed_that_moves_does_not_hide_a_dead_client(timed: Timed) -> None:
    async with deaf(timed, query="") as peer:
        for number in range(40):
            timed.server.board.show(ALICE, a=str(number))
            await timed.pass_(1.0)
        assert (await peer.close_frame())[0] == 4408


# The token's end


async def test_the_end_of_a_token_is_announced_and_then_it_is_the_end(timed: Timed) -> None:
    async with open_peer(timed.server.address, timed.server.token(ttl_s=1000.0), query="?own=0") as peer:
        await timed.pass_(799.0)
        await peer.call("connection.ping")
        assert peer.methods() == []
        await timed.pass_(102.0)
        in_ms = (await peer.next("connection.expiring"))["inMs"]
        assert 98_000 <= in_ms <= 201_000
        await timed.pass_(98.0)
        await peer.call("connection.ping")
        assert peer.methods() == []
        await timed.pass_(2.0)
        assert (await peer.closed()).code == 4401


async def test_under_a_minute_the_end_is_announced_at_once(timed: Timed) -> None:
    async with open_peer(timed.server.address, timed.server.token(ttl_s=50.0), query="?own=0") as peer:
        assert 49_000 <= (await peer.next("connection.expiring"))["inMs"] <= 50_000


async def test_a_renewed_token_goes_on_and_a_wrong_one_changes_nothing(timed: Timed) -> None:
    server = timed.server
    async with open_peer(server.address, server.token(ttl_s=100.0), query="?own=0") as peer:
        for token in ("nonsense", server.token("bob"), server.token(age_s=7200)):
            error = await peer.fail("connection.renew", {"token": token})
            assert error["code"] == -32014
            assert error["data"]["reason"]
        await timed.pass_(50.0)
        told = await peer.call("connection.renew", {"token": server.token(ttl_s=1000.0)})
        assert told["expiresAt"].endswith("Z")
        await timed.pass_(500.0)
        await peer.call("connection.ping")
        await timed.pass_(560.0)
        assert (await peer.closed()).code == 4401


async def test_new_scopes_replace_the_old(timed: Timed) -> None:
    server = timed.server
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice", "feed:watch")) as peer,
    ):
        await bob.next("feed.snapshot")
        await peer.call("feed.subscribe", {"feeds": [{"feed": "bob"}]})
        assert (await peer.call("connection.info"))["scopes"] == ["feed:watch"]
        await peer.call("connection.renew", {"token": server.token("alice", "admin")})
        assert await peer.next("feed.closed") == {"feed": "bob", "reason": "scope"}
        info = await peer.call("connection.info")
        assert info["scopes"] == ["admin"]
        assert [sub["feed"] for sub in info["subscriptions"]] == ["alice"]
        assert (await peer.fail("feed.get", {"feed": "bob"}))["code"] == -32008
        await peer.call("provider.list")


async def test_at_the_end_no_request_starts_and_running_ones_get_five_seconds(timed: Timed) -> None:
    server = timed.server
    async with open_peer(server.address, server.token(ttl_s=100.0)) as peer:
        await peer.next("feed.snapshot")
        await timed.pass_(98.0)
        await peer.send("action.execute", {"sourceId": "test.board", "actionId": "hang"}, id_="long")
        await server.board.hanging.wait()
        await timed.pass_(3.0)
        error = await peer.fail("connection.ping")
        assert (error["code"], error["data"]["reason"]) == (-32014, "the token has expired")
        await timed.pass_(3.0)
        assert server.gateway.registry.count == 1
        await timed.pass_(2.0)
        assert (await peer.closed()).code == 4401
        # The write itself was not cut short: it has its own deadline.
        assert server.gateway.statistics().requests_running == 0
        await timed.pass_(5.0)


async def test_a_leeway_is_added_to_the_end(slow_world: World) -> None:
    server = await slow_world.start(tokens=TokenOptions(leeway_s=30.0))
    assert isinstance(server.clock, TestClock)
    timed = Timed(server, server.clock)
    async with open_peer(server.address, server.token(ttl_s=100.0), query="?own=0") as peer:
        await timed.pass_(129.0)
        await peer.call("connection.ping")
        await timed.pass_(2.0)
        assert (await peer.closed()).code == 4401


# The background


async def test_in_the_background_nothing_is_pushed_and_requests_still_work(timed: Timed) -> None:
    server = timed.server
    async with open_peer(server.address, server.token()) as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        await peer.call("connection.background")
        for number in range(3):
            server.board.show(ALICE, a=str(number))
            await peer.call("connection.ping")
        assert "feed.delta" not in peer.methods()
        # The answer to the return first, then one delta.
        await peer.send("connection.foreground", id_="back")
        first = await peer.pick(lambda message: "method" not in message or message["method"] == "feed.delta")
        assert first["id"] == "back"
        await feed.step()
        assert feed.texts() == ["2"]
        server.board.show(ALICE, a="live")
        await feed.step()
        assert feed.texts() == ["live"]


async def test_a_background_connection_does_not_count_as_listening(timed: Timed) -> None:
    server = timed.server
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        session = server.manager.live(ALICE)
        assert session is not None
        assert session.listening == 1
        await peer.call("connection.background")
        assert (session.listening, session.attached) == (0, 1)
        await peer.call("connection.foreground")
        assert session.listening == 1


@pytest.mark.parametrize(("keep_ms", "kept_s"), [(None, 600.0), (60_000, 60.0), (1_800_000, 1800.0)])
async def test_the_background_has_its_time_and_no_pings(
    timed: Timed, keep_ms: int | None, kept_s: float
) -> None:
    async with deaf(timed, token=timed.server.token(ttl_s=10**6)) as peer:
        params = "{}" if keep_ms is None else f'{{"keepMs":{keep_ms}}}'
        request = f'{{"jsonrpc":"2.0","id":1,"method":"connection.background","params":{params}}}'
        await peer.send(masked(request.encode()))
        assert (await peer.message())["result"] == {}
        await timed.pass_(kept_s - 2.0)
        assert timed.server.gateway.registry.count == 1
        await timed.pass_(4.0)
        assert await peer.frame() == (0x88, b"\x11\x38the time in the background is over")


async def test_a_feed_get_in_the_background_is_the_base_of_the_next_delta(timed: Timed) -> None:
    server = timed.server
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        await peer.call("connection.background")
        server.board.show(ALICE, a="one")
        snapshot = await peer.call("feed.get")
        server.board.show(ALICE, a="two")
        await peer.call("connection.foreground")
        assert (await peer.next("feed.delta"))["base"] == snapshot["cursor"]


# Old age


async def test_an_old_connection_is_told_to_leave_and_then_closed_1001(slow_world: World) -> None:
    server = await slow_world.start(options=PushOptions(max_age_s=1000.0, replace_over_s=5.0), sessions=CALM)
    assert isinstance(server.clock, TestClock)
    timed = Timed(server, server.clock)
    async with open_peer(server.address, server.token(ttl_s=10**6), query="?own=0") as peer:
        await timed.pass_(890.0)
        await peer.call("connection.ping")
        assert peer.methods() == []
        await timed.pass_(220.0)
        assert 0 <= (await peer.next("server.draining"))["reconnectInMs"] <= 5000
        assert (await peer.closed()).code == 1001
