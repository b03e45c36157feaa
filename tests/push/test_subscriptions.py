"""Following other feeds: dashboards and watchers."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from anyio.lowlevel import checkpoint

from protocol.feed import ContextEntry
from protocol.ids import UserId
from server.push import PushOptions
from server.session.users import UserWrites
from tests.push.board import BOARD
from tests.push.conftest import ALICE, BOB, Server, World
from tests.push.peers import Follower, Peer, open_peer

CAROL = UserId("carol")


async def exist(server: Server, *users: str) -> None:
    """Makes these users, and their sessions."""
    for user in users:
        async with open_peer(server.address, server.token(user)) as peer:
            await peer.next("feed.snapshot")


async def subscribe(peer: Peer, *feeds: str, **more: object) -> list[dict[str, object]]:
    wishes = [{"feed": feed, **more} for feed in feeds]
    return (await peer.call("feed.subscribe", {"feeds": wishes}))["feeds"]


async def test_a_watcher_follows_feeds_from_their_first_state_on(server: Server) -> None:
    server.board.show(BOB, a="of bob")
    await exist(server, "bob", "carol")
    async with open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer:
        told = await subscribe(peer, "bob", "carol")
        bob, carol = Follower(peer, BOB), Follower(peer, CAROL)
        assert await bob.step() == "feed.snapshot"
        assert await carol.step() == "feed.snapshot"
        assert bob.texts() == ["of bob"]
        # A cursor in a reply names a state that has been sent before it.
        assert [entry["cursor"] for entry in told] == [bob.cursor, carol.cursor]
        server.board.show(BOB, a="new")
        server.board.show(CAROL, a="too")
        await bob.step()
        await carol.step()
        assert (bob.texts(), carol.texts()) == (["new"], ["too"])


async def test_changes_of_several_feeds_in_one_tick_are_one_write(server: Server) -> None:
    await exist(server, "bob", "carol")
    async with open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer:
        await subscribe(peer, "bob", "carol")
        [connection] = server.gateway.registry
        writes: list[bytes] = []
        transport = connection.transport

        class Counting:
            def write(self, data: bytes) -> None:
                writes.append(data)
                transport.write(data)

            def __getattr__(self, name: str) -> object:
                return getattr(transport, name)

        connection.transport = Counting()  # pyright: ignore[reportAttributeAccessIssue] -- only looks on
        server.board.show(BOB, a="one")
        server.board.show(CAROL, a="two")
        await peer.call("connection.ping")
        connection.transport = transport
        deltas = [data for data in writes if b"feed.delta" in data]
        assert len(deltas) == 1
        assert deltas[0].count(b"feed.delta") == 2


async def test_a_subscription_resumes_from_its_cursor(server: Server) -> None:
    server.board.show(BOB, a="0", b="x", c="y", d="z")
    await exist(server, "bob")
    token = server.token("alice", "feed:watch")
    async with open_peer(server.address, token, query="?own=0") as peer:
        await subscribe(peer, "bob")
        feed = Follower(peer, BOB)
        while feed.texts()[:1] != ["0"]:
            await feed.step()
    server.board.show(BOB, a="1", b="x", c="y", d="z")
    async with open_peer(server.address, token, query="?own=0") as peer:
        await subscribe(peer, "bob", since=feed.cursor)
        delta = await peer.next("feed.delta")
        assert delta["base"] == feed.cursor
        assert len(delta["put"]) == 1


async def test_subscribing_again_starts_anew(server: Server) -> None:
    server.board.show(BOB, a="one")
    await exist(server, "bob")
    async with open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer:
        await subscribe(peer, "bob")
        await peer.next("feed.snapshot")
        await subscribe(peer, "bob")
        await peer.next("feed.snapshot")
        assert len((await peer.call("connection.info"))["subscriptions"]) == 1


async def test_after_unsubscribing_nothing_comes(server: Server) -> None:
    await exist(server, "bob")
    async with open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer:
        await subscribe(peer, "bob")
        await peer.next("feed.snapshot")
        await peer.call("feed.unsubscribe", {"feeds": ["bob", "nobody"]})
        server.board.show(BOB, a="one")
        await peer.call("connection.ping")
        assert peer.methods() == []
        session = server.manager.live(BOB)
        assert session is not None
        assert (session.attached, session.listening) == (0, 0)


async def test_only_so_many_feeds_may_be_followed(world: World) -> None:
    server = await world.start(options=PushOptions(max_subscriptions=2))
    await exist(server, "bob", "carol", "dave")
    async with open_peer(server.address, server.token("alice", "feed:watch")) as peer:
        told = await subscribe(peer, "bob", "carol", "dave", "alice")
        errors = {entry["feed"]: entry["error"] for entry in told if "error" in entry}
        assert len(errors) == 1
        [error] = errors.values()
        assert isinstance(error, dict)
        assert (error["code"], error["data"]["limit"], error["data"]["max"]) == (-32015, "subscriptions", 2)
        assert "alice" not in errors
    assert server.gateway.statistics().limits == {"subscriptions": 1}


async def test_anothers_context_needs_its_scope(server: Server) -> None:
    await exist(server, "bob")
    entry = ContextEntry.make((BOARD, "place"), "secret")
    async with (
        open_peer(server.address, server.token("a", "feed:watch"), query="?own=0&context=1") as blind,
        open_peer(
            server.address, server.token("b", "feed:watch", "feed:context"), query="?own=0&context=1"
        ) as seeing,
    ):
        await subscribe(blind, "bob")
        await subscribe(seeing, "bob")
        assert "context" not in await blind.next("feed.snapshot")
        assert "context" in await seeing.next("feed.snapshot")
        server.board.tell(BOB, entry)
        assert (await seeing.next("feed.delta"))["context"]["set"][0]["value"] == "secret"
        server.board.show(BOB, a="one")
        assert "context" not in await blind.next("feed.delta")
        assert "context" not in await blind.call("feed.get", {"feed": "bob"})


async def test_each_subscription_has_its_own_minimal_interval(server: Server) -> None:
    await exist(server, "bob", "carol")
    async with open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer:
        await subscribe(peer, "bob", minIntervalMs=60000)
        await subscribe(peer, "carol")
        server.board.show(BOB, a="held")
        server.board.show(CAROL, a="free")
        feed = Follower(peer, CAROL)
        while feed.texts() != ["free"]:
            await feed.step()
        await peer.call("connection.ping")
        assert "feed.delta" not in peer.methods()
        intervals = {
            s["feed"]: s["minIntervalMs"] for s in (await peer.call("connection.info"))["subscriptions"]
        }
        assert intervals == {"bob": 60000, "carol": 0}


async def test_more_watchers_than_are_served_in_one_turn_all_get_every_change(world: World) -> None:
    server = await world.start(options=PushOptions(pushes_at_once=3))
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(open_peer(server.address, server.token("bob"))) for _ in range(10)
        ]
        feeds = [Follower(peer, BOB) for peer in peers]
        for feed in feeds:
            await feed.step()
        for number in range(10):
            server.board.show(BOB, a=str(number))
            # The next change comes while this one is still going round.
            await checkpoint()
            await checkpoint()
        for feed in feeds:
            while feed.texts() != ["9"]:
                await feed.step()
        assert [feed.cursor for feed in feeds] == [feeds[0].cursor] * 10


async def test_a_deleted_user_is_gone_for_those_who_watched(server: Server) -> None:
    await exist(server, "bob")
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer,
    ):
        await bob.next("feed.snapshot")
        await subscribe(peer, "bob")
        await peer.next("feed.snapshot")
        await UserWrites(server.manager).delete(BOB)
        assert await peer.next("feed.closed") == {"feed": "bob", "reason": "gone"}
        assert (await bob.closed()).code == 4403
        await peer.call("connection.ping")


async def test_a_session_that_was_taken_away_makes_its_clients_come_back(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        await server.manager.remove(ALICE)
        assert (await peer.closed()).code == 1012
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")


@pytest.mark.parametrize("query", ["", "?own=0"])
async def test_ones_own_feed_may_be_subscribed_to_like_any_other(server: Server, query: str) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token("alice", "feed:watch"), query=query) as peer:
        [told] = await subscribe(peer, "alice")
        feed = Follower(peer, ALICE)
        while feed.texts() != ["one"]:
            await feed.step()
        assert told["cursor"]
