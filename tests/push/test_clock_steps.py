"""The wall clock is set forward or back under a running server, as time servers and sleeping machines do it.

Timers go on counting what really passes; what a moment of the wall clock decides is decided by the new time.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from protocol import times
from server.push import PushOptions
from server.sources.reminders.source import RemindersProvider
from server.sources.user import UserProvider
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, Peer, open_peer
from tests.support.clock import TestClock

HOUR_S = 3600.0


class Timed:
    """A server and the clock it lives by."""

    def __init__(self, server: Server, clock: TestClock) -> None:
        self.server = server
        self.clock = clock

    async def pass_(self, seconds: float) -> None:
        """Lets time go by so slowly that answers get through."""
        await self.clock.advance(seconds, quiet_s=0.004)

    def in_s(self, seconds: float) -> str:
        """A moment as it is written on the wire."""
        return times.to_wire(self.clock.now() + timedelta(seconds=seconds))


@pytest.fixture
async def timed(slow_world: World) -> Timed:
    server = await slow_world.start(
        UserProvider(), RemindersProvider(), options=PushOptions(heartbeat_s=25.0)
    )
    assert isinstance(server.clock, TestClock)
    return Timed(server, server.clock)


async def _remind(peer: Peer, title: str, due: str) -> None:
    params = {"title": title, "dueAt": due}
    request = {"sourceId": "freya.reminders", "actionId": "create-reminder", "params": params, "key": title}
    await peer.call("action.execute", request)


def _titles(feed: Follower) -> list[object]:
    return [item.data.get("title") for item in feed.state.items if item.source_id == "freya.reminders"]


async def test_set_forward_past_the_end_of_a_token_no_request_starts_and_the_connection_ends(
    timed: Timed,
) -> None:
    async with open_peer(timed.server.address, timed.server.token(ttl_s=2 * HOUR_S)) as peer:
        timed.clock.shift_wall(3 * HOUR_S)
        error = await peer.fail("source.list")
        assert (error["code"], error["data"]["reason"]) == (-32014, "the token has expired")
        await timed.pass_(61.0)
        assert (await peer.closed()).code == 4401


async def test_set_back_nobody_is_closed_and_heartbeats_go_on(timed: Timed) -> None:
    async with open_peer(timed.server.address, timed.server.token(ttl_s=2 * HOUR_S)) as peer:
        timed.clock.shift_wall(-3 * HOUR_S)
        await timed.pass_(120.0)
        assert "connection.expiring" not in peer.methods()
        assert timed.server.gateway.registry.count == 1
        await peer.call("connection.ping")
    async with open_peer(timed.server.address, timed.server.token(ttl_s=2 * HOUR_S)) as peer:
        await peer.call("connection.ping")


async def test_a_reminder_that_the_clock_was_set_past_comes_within_a_look(timed: Timed) -> None:
    async with open_peer(timed.server.address, timed.server.token()) as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        await _remind(peer, "soon", timed.in_s(30 * HOUR_S))
        await timed.pass_(1.0)
        assert _titles(feed) == []
        with capture_logs() as lines:
            timed.clock.shift_wall(30.5 * HOUR_S)
            await timed.pass_(7.0)
        while not _titles(feed):
            await feed.step()
        assert _titles(feed) == ["soon"]
        assert [line["by_s"] for line in lines if line["event"] == "wall_clock_set"] == [30.5 * HOUR_S]


async def test_set_back_changes_go_on_in_order_under_the_time_that_it_is_now(timed: Timed) -> None:
    async with open_peer(timed.server.address, timed.server.token()) as peer:
        await peer.next("feed.snapshot")
        timed.server.board.show(ALICE, a="before")
        await timed.pass_(1.0)
        before = await peer.next("feed.delta")
        timed.clock.shift_wall(-HOUR_S)
        timed.server.board.show(ALICE, a="after")
        await timed.pass_(1.0)
        after = await peer.next("feed.delta")
        assert after["base"] == before["cursor"]
        assert times.from_wire(after["at"]) < times.from_wire(before["at"])
        age = timed.server.gateway.statistics().push_age
        assert 0 <= age.total < 10.0, "ages are of the clock that is never set"
