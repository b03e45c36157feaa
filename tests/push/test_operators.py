"""What operators may see and do: inspect, revoke, delete, live figures, what the server is without."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import anyio

from protocol.ids import UserId
from protocol.messages.stats import StatsUpdate
from protocol.messages.user import UserInspectResult
from protocol.times import to_wire
from server.push import PushOptions
from server.push.methods.rooms import Alone
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, open_peer
from tests.support.clock import TestClock


async def test_inspect_says_why_a_feed_is_as_it_is(server: Server) -> None:
    async with (
        open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin,
        open_peer(server.address, server.token(), query="?client=phone") as phone,
    ):
        feed = Follower(phone, ALICE)
        await feed.step()
        server.board.show(ALICE, a="one")
        while feed.texts() != ["one"]:
            await feed.step()
        await phone.send("feed.ack", {"feed": ALICE, "cursor": feed.cursor})
        await phone.call("connection.background")
        async with open_peer(server.address, server.token(), query="?client=tablet") as tablet:
            await tablet.next("feed.snapshot")
        while server.gateway.registry.count > 2:
            await anyio.lowlevel.checkpoint()
        told = await admin.call("user.inspect", {"user": ALICE})
    result = UserInspectResult.read(told)
    assert result.unreachable == []
    [view] = result.replicas
    [connection] = view.connections
    assert (connection.client, connection.background, connection.writable) == ("phone", True, True)
    assert (connection.sent, connection.acked) == (feed.cursor, feed.cursor)
    assert connection.last_resume is not None
    assert [(close.client, close.code) for close in view.closes] == [("tablet", 1006)]
    assert "test.board" in [source.source_id for source in view.sources]
    assert view.causes[0].trigger == "push"


async def test_inspect_of_a_user_who_is_not_here_is_empty(server: Server) -> None:
    async with open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin:
        [view] = (await admin.call("user.inspect", {"user": "nobody"}))["replicas"]
        assert (view["connections"], view["closes"], view["sources"]) == ([], [], [])


class Others(Alone):
    """Other replicas, as a bus would tell of them."""

    async def inspect(self, user: UserId) -> tuple[list[Mapping[str, object]], list[str]]:
        view: Mapping[str, object] = {
            "replica": "r9",
            "connections": [],
            "closes": [],
            "sources": [],
            "causes": [],
        }
        return [view], ["r8"]


async def test_inspect_asks_the_other_replicas_too(world: World) -> None:
    server = await world.start(replicas=Others())
    async with open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin:
        told = UserInspectResult.read(await admin.call("user.inspect", {"user": ALICE}))
    assert [view.replica for view in told.replicas] == ["r1", "r9"]
    assert told.unreachable == ["r8"]


async def test_revoking_closes_live_sockets_and_refuses_older_tokens(server: Server) -> None:
    old, admin_token = server.token(age_s=60), server.token("root", "admin")
    async with (
        open_peer(server.address, admin_token, query="?own=0") as admin,
        open_peer(server.address, old) as phone,
        open_peer(server.address, old, query="?own=0") as publisher,
        open_peer(server.address, server.token("bob", age_s=60)) as bob,
    ):
        before = to_wire(server.clock.now() - timedelta(seconds=30))
        assert await admin.call("user.revoke", {"user": ALICE, "issuedBefore": before}) == {"closed": 2}
        assert (await phone.closed()).code == 4403
        assert (await publisher.closed()).code == 4403
        await bob.call("connection.ping")
        async with open_peer(server.address, server.token()) as fresh:
            error = await fresh.fail("connection.renew", {"token": old})
            assert error["code"] == -32014


async def test_a_revocation_reaches_the_other_replicas(world: World) -> None:
    first, second = await world.start(), await world.start()
    async with (
        open_peer(first.address, first.token("root", "admin"), query="?own=0") as admin,
        open_peer(second.address, second.token(age_s=5)) as phone,
    ):
        await phone.next("feed.snapshot")
        assert (await admin.call("user.revoke", {"user": ALICE}))["closed"] == 0
        assert (await phone.closed()).code == 4403


async def test_deleting_a_user_ends_their_connections(server: Server) -> None:
    async with (
        open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin,
        open_peer(server.address, server.token()) as phone,
    ):
        await phone.next("feed.snapshot")
        assert await admin.call("user.delete", {"user": ALICE}) == {}
        assert (await phone.closed()).code == 4403
        assert server.manager.live(ALICE) is None


async def test_live_figures_come_as_often_as_asked(slow_world: World) -> None:
    server = await slow_world.start(figures=lambda: {"sessions": 7})
    assert isinstance(server.clock, TestClock)
    async with open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin:
        await admin.call("stats.subscribe", {"everyMs": 2000})
        await server.clock.advance(8.5, quiet_s=0.02)
        await admin.call("stats.unsubscribe")
        updates = [m["params"] for m in admin.unread if m.get("method") == "stats.update"]
        assert 4 <= len(updates) <= 6
        update = StatsUpdate.read(updates[0])
        assert (update.connections, update.sessions, update.replicas) == (1, 7, 1)
        admin.unread.clear()
        await server.clock.advance(10.0, quiet_s=0.02)
        await admin.call("connection.ping")
        assert admin.methods() == []


async def test_operators_are_told_what_the_server_is_without(server: Server) -> None:
    async with (
        open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin,
        open_peer(server.address, server.token(), query="?own=0") as user,
    ):
        since = server.clock.now()
        server.gateway.set_degraded(("bus",), since)
        server.gateway.set_degraded(("bus",), since)
        assert await admin.next("server.status") == {"degraded": ["bus"], "since": to_wire(since)}
        server.gateway.set_degraded((), None)
        assert await admin.next("server.status") == {"degraded": []}
        await user.call("connection.ping")
        assert (user.methods(), admin.methods()) == ([], [])


async def test_publishing_tells_how_many_look(server: Server) -> None:
    item = {"id": "1", "type": "note", "data": {"text": "hi"}}
    async with (
        open_peer(server.address, server.token("svc", "item:publish"), query="?own=0") as service,
        open_peer(server.address, server.token()) as phone,
        open_peer(server.address, server.token()) as tablet,
    ):
        await phone.next("feed.snapshot")
        await tablet.next("feed.snapshot")
        await tablet.call("connection.background")
        told = await service.call("item.publish", {"feeds": ["alice", "bob"], "items": [item]})
        assert told == {"accepted": 2, "reachable": {"alice": 1, "bob": 0}}
        assert (await phone.next("feed.delta"))["put"][0]["item"]["data"] == {"text": "hi"}
        assert await service.call("item.retract", {"feed": "alice", "ids": ["1", "2"]}) == {"removed": 1}


async def test_a_publisher_has_an_allowance_over_all_its_connections(world: World) -> None:
    server = await world.start(options=PushOptions(publishes_per_s=0.001, publish_burst=3))
    publish = {"feeds": ["a", "b"], "items": [{"id": "1", "type": "note", "data": dict[str, object]()}]}
    token = server.token("svc", "item:publish")
    async with (
        open_peer(server.address, token, query="?own=0") as one,
        open_peer(server.address, token, query="?own=0") as two,
        open_peer(server.address, server.token("other", "item:publish"), query="?own=0") as other,
    ):
        await one.call("item.publish", publish)
        error = await two.fail("item.publish", publish)
        assert (error["code"], error["data"]["temporary"]) == (-32009, True)
        assert error["data"]["retryInMs"] > 0
        assert server.gateway.statistics().limits == {"publishes_per_s": 1}
        await other.call("item.publish", publish)


async def test_the_figures_add_up(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        server.board.show(ALICE, a="one")
        while feed.texts() != ["one"]:
            await feed.step()
        await peer.fail("source.get", {"sourceId": "none"})
        now = server.gateway.statistics()
        assert (now.connections, now.users, now.subscriptions, now.feeds) == (1, 1, 1, 1)
        assert now.snapshots + now.deltas == feed.frames
        assert sum(now.push_age.counts) == feed.frames
        assert now.method_errors == {("source.get", -32001): 1}
        assert sum(now.method_seconds["source.get"].counts) == 1
    async with open_peer(server.address, server.token(), query=f"?since={feed.cursor}") as peer:
        await peer.next("feed.delta")
        assert server.gateway.statistics().resumes == {"same": 1}
