"""The feed as a client sees it: first state, changes, resume."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from protocol.feed import ContextEntry
from protocol.ids import UserId
from server.push import PushOptions
from server.replication import MemoryHub
from tests.push.board import BOARD, Slow
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, Peer, open_peer
from tests.support.clock import TestClock


async def follow(peer: Peer, feed: str = ALICE) -> Follower:
    """The feed after its first frame."""
    follower = Follower(peer, feed)
    await follower.step()
    return follower


async def shown(follower: Follower, *texts: str) -> Follower:
    """Follows until the feed says just that."""
    while follower.texts() != list(texts):
        await follower.step()
    return follower


def state_of(server: Server, user: UserId = ALICE) -> object:
    session = server.manager.live(user)
    assert session is not None
    return session.history.current.state


async def test_a_client_gets_the_feed_and_then_each_change(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token()) as peer:
        feed = await shown(await follow(peer), "one")
        server.board.show(ALICE, a="one", b="two")
        assert await feed.step() == "feed.delta"
        assert feed.texts() == ["one", "two"]
        server.board.show(ALICE, b="two")
        assert await feed.step() == "feed.delta"
        assert feed.texts() == ["two"]
        assert feed.state == state_of(server)


async def test_an_answer_equal_to_the_last_makes_no_frame(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token()) as peer:
        feed = await shown(await follow(peer), "one")
        for _ in range(5):
            server.board.show(ALICE, a="one")
        server.board.show(ALICE, a="two")
        assert await feed.step() == "feed.delta"
        assert feed.texts() == ["two"]


async def test_changes_of_one_tick_are_one_frame(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        feed = await shown(await follow(peer))
        frames = feed.frames
        for number in range(20):
            server.board.show(ALICE, a=str(number))
        await shown(feed, "19")
        assert feed.frames == frames + 1


async def test_what_changes_while_a_client_connects_is_neither_lost_nor_doubled(server: Server) -> None:
    """Published in the middle of many connects: every follower's deltas chain, and all end in one state."""
    done = anyio.Event()

    async def publish() -> None:
        number = 0
        while not done.is_set():
            number += 1
            server.board.show(ALICE, a=str(number), b=str(-number))
            await checkpoint()
        server.board.show(ALICE, a="end")

    async def connect() -> None:
        async with open_peer(server.address, server.token()) as peer:
            await shown(await follow(peer), "end")

    async with anyio.create_task_group() as group:
        group.start_soon(publish)
        async with open_peer(server.address, server.token()) as peer:
            feed = await follow(peer)
            async with anyio.create_task_group() as clients:
                for _ in range(8):
                    clients.start_soon(connect)
                for _ in range(20):
                    await feed.step()
                done.set()
            await shown(feed, "end")
            assert feed.state == state_of(server)


async def test_a_client_resumes_with_the_difference_again_and_again(server: Server) -> None:
    server.board.show(ALICE, a="0", b="x", c="y", d="z")
    async with open_peer(server.address, server.token()) as peer:
        feed = await shown(await follow(peer), "0", "x", "y", "z")
    for number in range(1, 6):
        server.board.show(ALICE, a=str(number), b="x", c="y", d="z")
        query = f"?since={feed.cursor}"
        async with open_peer(server.address, server.token(), query=query) as peer:
            feed = resumed(feed, peer)
            assert await feed.step() == "feed.delta"
            assert feed.texts()[0] == str(number)
            info = await peer.call("connection.info")
            assert info["lastResume"]["outcome"] == "delta"


def resumed(feed: Follower, peer: Peer) -> Follower:
    """The same feed, over another connection."""
    again = Follower(peer, feed.feed)
    again.state, again.cursor = feed.state, feed.cursor
    return again


async def test_a_client_that_missed_nothing_gets_an_empty_delta(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token()) as peer:
        feed = await shown(await follow(peer), "one")
    async with open_peer(server.address, server.token(), query=f"?since={feed.cursor}") as peer:
        delta = await peer.next("feed.delta")
        assert delta.keys() == {"feed", "base", "cursor", "at"}
        assert delta["base"] == feed.cursor
        assert (await peer.call("connection.info"))["lastResume"]["outcome"] == "same"


async def test_a_cursor_of_another_replica_with_the_same_content_gets_an_empty_delta(world: World) -> None:
    first, second = await world.start(), await world.start()
    for server in (first, second):
        server.board.show(ALICE, a="one")
    async with open_peer(first.address, first.token()) as peer:
        feed = await shown(await follow(peer), "one")
    async with open_peer(second.address, second.token()) as peer:
        await shown(await follow(peer), "one")
    async with open_peer(second.address, second.token(), query=f"?since={feed.cursor}") as peer:
        delta = await peer.next("feed.delta")
        assert "put" not in delta
        assert "remove" not in delta
        assert delta["pending"] == []
        assert delta["cursor"] != delta["base"]


@pytest.mark.parametrize("cursor", ["nonsense", "A" * 60, "x" * 128])
async def test_a_cursor_nobody_knows_gets_a_snapshot(server: Server, cursor: str) -> None:
    async with open_peer(server.address, server.token(), query=f"?since={cursor}") as peer:
        assert (await peer.next("feed.snapshot"))["feed"] == "alice"
        assert (await peer.call("connection.info"))["lastResume"]["outcome"] == "snapshot"


async def test_a_cursor_of_another_users_feed_is_one_nobody_knows(server: Server) -> None:
    async with open_peer(server.address, server.token("bob")) as peer:
        cursor = (await peer.next("feed.snapshot"))["cursor"]
    async with open_peer(server.address, server.token(), query=f"?since={cursor}") as peer:
        await peer.next("feed.snapshot")


async def test_a_cursor_of_a_later_write_makes_the_replica_read_first(world: World) -> None:
    """No bus joins the two; the client brings word of its write itself."""
    first, second = await world.start(), await world.start(hub=MemoryHub())
    for server in (first, second):
        server.board.show(ALICE, a="one")
    async with open_peer(second.address, second.token()) as watcher:
        await shown(await follow(watcher), "one")
        async with open_peer(first.address, first.token()) as peer:
            feed = await shown(await follow(peer), "one")
            await peer.call("source.delete", {"sourceId": BOARD})
            await shown(feed)
        async with open_peer(second.address, second.token(), query=f"?since={feed.cursor}") as peer:
            delta = await peer.next("feed.delta")
            assert "put" not in delta
            sources = (await peer.call("source.list"))["sources"]
            assert {s["sourceId"]: s["enabled"] for s in sources}[BOARD] is False


async def test_delta_0_means_snapshots_only_also_on_resume(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token(), query="?delta=0") as peer:
        feed = await shown(await follow(peer), "one")
        server.board.show(ALICE, a="two")
        assert await feed.step() == "feed.snapshot"
    async with open_peer(server.address, server.token(), query=f"?delta=0&since={feed.cursor}") as peer:
        assert await Follower(peer, ALICE).step() == "feed.snapshot"


async def test_own_0_sends_no_feed_and_makes_no_session(server: Server) -> None:
    async with open_peer(server.address, server.token(), query="?own=0") as peer:
        await peer.call("connection.ping")
        assert peer.methods() == []
        assert server.manager.live(ALICE) is None


async def test_context_comes_only_where_it_is_asked_for(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with (
        open_peer(server.address, server.token()) as plain,
        open_peer(server.address, server.token(), query="?context=1") as curious,
    ):
        blind, seeing = await shown(await follow(plain), "one"), await shown(await follow(curious), "one")
        server.board.tell(ALICE, ContextEntry.make((BOARD, "mood"), "good"))
        delta = await curious.next("feed.delta")
        assert delta["context"]["set"] == [{"key": [BOARD, "mood"], "value": "good"}]
        assert delta.keys() == {"feed", "base", "cursor", "at", "context"}
        # A change of context alone is nothing to the other; the next change follows on what it has.
        server.board.show(ALICE, a="two")
        change = await plain.next("feed.delta")
        assert change["base"] == blind.cursor
        assert "context" not in change
        assert seeing.texts() == ["one"]


async def test_many_changes_of_context_alone_cost_no_snapshot(server: Server) -> None:
    server.board.show(ALICE, a="one", b="long" * 20, c="long" * 20)
    async with open_peer(server.address, server.token()) as peer:
        feed = await follow(peer)
        await shown(feed, "one", "long" * 20, "long" * 20)
        for number in range(100):
            server.board.tell(ALICE, ContextEntry.make((BOARD, "count"), number))
            await peer.call("connection.ping")
        server.board.show(ALICE, a="two", b="long" * 20, c="long" * 20)
        assert await feed.step() == "feed.delta"


async def test_debug_1_says_why_a_delta_came(server: Server) -> None:
    async with open_peer(server.address, server.token(), query="?debug=1") as peer:
        await follow(peer)
        server.board.show(ALICE, a="one")
        cause = (await peer.next("feed.delta"))["cause"]
        while cause.get("sourceId") != BOARD or cause["trigger"] != "push":
            cause = (await peer.next("feed.delta"))["cause"]
        assert cause["merged"] == 1
        assert cause["computeMs"] >= 0
        assert cause["waitedMs"] >= 0


async def test_what_is_still_to_answer_is_pending_and_follows(world: World) -> None:
    slow = Slow()
    server = await world.start(slow)
    async with open_peer(server.address, server.token()) as peer:
        feed = await follow(peer)
        assert "test.slow" in feed.state.pending
        slow.gate.set()
        await shown(feed, "late")
        assert feed.state.pending == ()


async def test_a_resuming_client_of_a_cold_session_is_spared_a_blank(world: World) -> None:
    """The session is new and has nothing to show yet: it waits a moment for its sources."""
    slow = Slow()
    server = await world.start(slow, options=PushOptions(resume_wait_s=60.0))
    async with open_peer(server.address, server.token()) as peer:
        feed = await follow(peer)
        slow.gate.set()
        await shown(feed, "late")
    await server.manager.remove(ALICE)
    slow.gate = anyio.Event()
    async with anyio.create_task_group() as group:

        async def come_back() -> None:
            query = f"?since={feed.cursor}"
            async with open_peer(server.address, server.token(), query=query) as again:
                back = Follower(again, ALICE)
                back.cursor, back.state = feed.cursor, feed.state
                await back.step()
                assert back.texts() == ["late"]

        group.start_soon(come_back)
        while server.manager.live(ALICE) is None:
            await checkpoint()
        slow.gate.set()


async def test_its_patience_with_cold_sources_has_an_end(slow_world: World) -> None:
    slow = Slow()
    server = await slow_world.start(slow, options=PushOptions(resume_wait_s=1.0))
    assert isinstance(server.clock, TestClock)
    async with open_peer(server.address, server.token()) as peer:
        feed = await follow(peer)
    await server.manager.remove(ALICE)
    slow.gate = anyio.Event()
    server.board.show(ALICE)
    cursor = feed.cursor[:-16] + "A" * 16  # of a session long gone, with a content that is no more
    async with open_peer(server.address, server.token(), query=f"?since={cursor}", welcome=False) as peer:
        await server.clock.advance(2.0, quiet_s=0.05)
        await peer.next("feed.snapshot")


async def test_feed_get_is_a_revision_of_the_subscription(server: Server) -> None:
    server.board.show(ALICE, a="one")
    async with open_peer(server.address, server.token()) as peer:
        await shown(await follow(peer), "one")
        snapshot = await peer.call("feed.get")
        server.board.show(ALICE, a="two")
        assert (await peer.next("feed.delta"))["base"] == snapshot["cursor"]


async def test_feed_get_of_a_feed_that_is_not_followed_is_that_feed(server: Server) -> None:
    server.board.show(UserId("bob"), a="of bob")
    async with open_peer(server.address, server.token("bob")) as bob:
        await shown(await follow(bob, "bob"), "of bob")
        async with open_peer(server.address, server.token("alice", "feed:watch"), query="?own=0") as peer:
            snapshot = await peer.call("feed.get", {"feed": "bob"})
            assert [item["data"]["text"] for item in snapshot["items"]] == ["of bob"]
            assert "context" not in snapshot


async def test_a_reply_that_names_a_cursor_comes_after_that_state(server: Server) -> None:
    async with open_peer(server.address, server.token(), query="?minIntervalMs=60000") as peer:
        feed = await follow(peer)
        server.board.shown[ALICE] = {"a": "fresh"}
        await peer.send("feed.refresh", id_="r")
        await shown(feed, "fresh")
        reply = await peer.reply("r")
        assert reply["result"]["cursor"] == feed.cursor


async def test_feed_refresh_asks_every_source_again(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        await follow(peer)
        before = server.board.fetched
        await peer.call("feed.refresh")
        assert server.board.fetched == before + 1


async def test_an_ack_feeds_the_end_to_end_age(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        feed = await follow(peer)
        await peer.send("feed.ack", {"feed": ALICE, "cursor": feed.cursor})
        await peer.send("feed.ack", {"feed": ALICE, "cursor": "of-nothing"})
        await peer.send("feed.ack", {"feed": "bob", "cursor": feed.cursor})
        info = await peer.call("connection.info")
        assert info["subscriptions"][0]["acked"] == "of-nothing"
        assert sum(server.gateway.statistics().acked_age.counts) == 1


async def test_source_changed_reaches_every_connection_of_the_user_that_wants_it(server: Server) -> None:
    async with (
        open_peer(server.address, server.token()) as one,
        open_peer(server.address, server.token()) as two,
        open_peer(server.address, server.token(), query="?settings=0") as deaf,
        open_peer(server.address, server.token("bob")) as bob,
    ):
        for peer in (one, two, deaf):
            await shown(await follow(peer))
        await one.call("source.patch", {"sourceId": BOARD, "config": {"title": "new"}})
        for peer in (one, two):
            source = (await peer.next("source.changed"))["source"]
            while source["config"] != {"title": "new"}:
                source = (await peer.next("source.changed"))["source"]
        for peer in (deaf, bob):
            await peer.call("connection.ping")
            assert "source.changed" not in [
                m["method"] for m in peer.unread if m.get("params", {}).get("source", {}).get("config")
            ]


async def test_compression_is_shared_and_read_by_the_library(server: Server) -> None:
    server.board.show(ALICE, a="long " * 100)
    async with (
        open_peer(server.address, server.token(), compression="deflate") as small,
        open_peer(server.address, server.token(), query="?deflate=0", compression="deflate") as plain,
    ):
        assert "permessage-deflate" in str(small.ws.response and small.ws.response.headers)
        assert "permessage-deflate" not in str(plain.ws.response and plain.ws.response.headers)
        feeds = [await follow(small), await follow(plain)]
        for number in range(3):
            server.board.show(ALICE, a=f"{number} " * 300)
            for feed in feeds:
                await shown(feed, f"{number} " * 300)
        assert (await small.call("source.list", {"schemas": True}))["sources"]
