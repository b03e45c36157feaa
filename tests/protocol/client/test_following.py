from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from protocol.client import FeedClosed, Status, connect
from protocol.encoding import snapshot_result
from protocol.errors import FeedNotFound, Forbidden, RateLimited
from protocol.feed import FeedState
from protocol.frozen import JsonObject
from tests.protocol.client.peers import PATIENCE_S, Notes, Peer, Server, feed_of, until
from tests.protocol.strategies import START, make_item
from tests.support.clock import TestClock

TOKEN = "aaa.bbb.ccc"
NOTHING: JsonObject = {}


async def newest(feed: AsyncIterator[FeedState]) -> FeedState:
    with anyio.fail_after(PATIENCE_S):
        return await anext(feed)


async def answer(peer: Peer, method: str, result: object) -> None:
    await peer.answer(await peer.hear(method), result)


async def subscribed(peer: Peer, feed: str, state: FeedState, cursor: str) -> JsonObject:
    """Lets the client subscribe, and answers what it asked with."""
    heard = await peer.hear("feed.subscribe")
    await peer.snapshot(state, cursor, feed)
    await peer.answer(heard, {"feeds": [{"feed": feed, "cursor": cursor}]})
    return heard.params


@pytest.mark.loop("asyncio", "uvloop")
async def test_a_client_shows_the_snapshot_and_then_what_each_delta_makes_of_it(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        states = aiter(feed)
        peer = await server.accept_live(feed_of(0, 0), "c1")
        assert await newest(states) == feed_of(0, 0)
        await peer.delta(feed_of(0, 0), "c1", feed_of(0, 1, 0), "c2")
        assert await newest(states) == feed_of(0, 1, 0) == feed.state
        assert feed.own.cursor == "c2"
        assert feed.own.name == "alice"
        assert feed.own.at is not None


async def test_a_slow_reader_sees_only_the_newest_state(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c0")
        for n in range(1, 50):
            await peer.delta(feed_of(n - 1), f"c{n - 1}", feed_of(n), f"c{n}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, peer, "connection.ping", {"at": "2026-03-02T09:00:00Z"})
            await feed.ping()  # answered in the order of the wire: all deltas have arrived
        states = aiter(feed)
        assert await newest(states) == feed_of(49)
        await peer.delta(feed_of(49), "c49", feed_of(50), "c50")
        assert await newest(states) == feed_of(50)


async def test_a_delta_that_changes_nothing_shown_wakes_nobody(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        states = aiter(feed)
        peer = await server.accept_live(feed_of(0), "c1")
        assert await newest(states) == feed_of(0)
        await peer.delta(feed_of(0), "c1", feed_of(0), "c2")
        await peer.snapshot(feed_of(0), "c3")
        await peer.delta(feed_of(0), "c3", feed_of(1), "c4")
        assert await newest(states) == feed_of(1)


async def test_every_reader_has_its_own_place(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        early = aiter(feed)
        assert await newest(early) == feed_of(0)
        await peer.delta(feed_of(0), "c1", feed_of(1), "c2")
        assert await newest(early) == feed_of(1)
        assert await newest(aiter(feed)) == feed_of(1)


async def test_after_a_base_mismatch_the_feed_is_read_anew_and_deltas_until_then_are_ignored(
    server: Server,
) -> None:
    async with connect(server.url, TOKEN) as feed:
        states = aiter(feed)
        peer = await server.accept_live(feed_of(0), "c1")
        assert await newest(states) == feed_of(0)
        await peer.delta(feed_of(8), "lost", feed_of(9), "c9")
        heard = await peer.hear("feed.get")
        assert heard.params == {}
        assert feed.status is Status.STALE
        await peer.delta(feed_of(9), "c9", feed_of(10), "c10")
        await peer.answer(heard, snapshot_result("alice", "c20", START, feed_of(20), context=False))
        await peer.delta(feed_of(20), "c20", feed_of(21), "c21")
        with anyio.fail_after(PATIENCE_S):
            await feed.wait_status(Status.LIVE)
            async for state in states:
                if state == feed_of(21):
                    break
        assert feed.own.cursor == "c21"


async def test_a_delta_that_does_not_fit_its_base_is_a_mismatch_too(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        await newest(aiter(feed))
        await peer.delta(FeedState((make_item("x"), make_item("y"))), "c1", FeedState(), "c2")
        await peer.hear("feed.get")


async def test_where_the_feed_cannot_be_read_anew_the_client_begins_again_without_a_cursor(
    server: Server, clock: TestClock
) -> None:
    async with connect(server.url, TOKEN, draw=lambda: 0.0) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        await newest(aiter(feed))
        await peer.delta(feed_of(8), "lost", feed_of(9), "c9")
        await peer.refuse(await peer.hear("feed.get"), Forbidden("own"))
        again = await server.accept()
        assert "since" not in again.query
        assert feed.state == feed_of(0)


async def test_an_item_is_hidden_when_it_expires_also_without_a_connection(
    server: Server, clock: TestClock
) -> None:
    keeps = make_item("keeps")
    ends = make_item("ends", expires_at=clock.now() + timedelta(seconds=40))
    async with connect(server.url, TOKEN, now=clock.now, draw=lambda: 1.0) as feed:
        states = aiter(feed)
        peer = await server.accept_live(FeedState((ends, keeps)), "c1")
        assert await newest(states) == FeedState((ends, keeps))
        for _ in range(20):
            server.refuse(500)
        peer.drop()
        with anyio.fail_after(PATIENCE_S):
            await feed.wait_status(Status.STALE)
        await clock.advance(39)
        assert feed.state == FeedState((ends, keeps))
        await clock.advance(1)
        assert feed.state == FeedState((keeps,))
        assert await newest(states) == FeedState((keeps,))


async def test_an_item_that_had_expired_when_it_came_is_never_shown(server: Server, clock: TestClock) -> None:
    async with connect(server.url, TOKEN, now=clock.now) as feed:
        await server.accept_live(FeedState((make_item("old", expires_at=clock.now()), make_item("a"))), "c1")
        assert await newest(aiter(feed)) == FeedState((make_item("a"),))


async def test_what_another_user_saw_is_not_shown_to_the_next(server: Server, clock: TestClock) -> None:
    async with connect(server.url, TOKEN, draw=lambda: 0.0) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        await newest(aiter(feed))
        await peer.close(1001)
        again = await server.accept()
        await again.welcome("bob")
        await until(lambda: feed.own.name == "bob")
        assert feed.state is None
        assert feed.status is Status.CONNECTING


async def test_the_client_says_what_has_arrived_as_often_as_the_server_wants_to_know(
    server: Server, clock: TestClock
) -> None:
    notes = Notes()
    async with connect(server.url, TOKEN, on_notification=notes):
        peer = await server.accept()
        await peer.welcome(ackEveryMs=5_000)
        await peer.snapshot(feed_of(0), "c0")
        assert (await peer.hear("feed.ack")).params == {"feed": "alice", "cursor": "c0"}
        for n in range(1, 4):
            await peer.delta(feed_of(n - 1), f"c{n - 1}", feed_of(n), f"c{n}")
        await notes.up_to_here(peer)
        await clock.advance(5)
        heard = await peer.hear("feed.ack")
        assert heard.params == {"feed": "alice", "cursor": "c3"}
        assert heard.id is None


async def test_another_feed_is_watched_beside_ones_own(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")

        async def play() -> None:
            asked = await subscribed(peer, "bob", feed_of(5), "b1")
            assert asked == {"feeds": [{"feed": "bob", "minIntervalMs": 500}]}
            await peer.delta(feed_of(5), "b1", feed_of(6), "b2", "bob")

        tasks.start_soon(play)
        bob = await feed.watch("bob", min_interval_ms=500)
        assert bob.name == "bob"
        assert bob.state is not None
        with anyio.fail_after(PATIENCE_S):
            async for state in bob:
                if state == feed_of(6):
                    break
        assert await newest(aiter(feed)) == feed_of(0)
        assert await feed.watch("bob") is bob


async def test_watched_feeds_are_resumed_after_a_reconnect(server: Server, clock: TestClock) -> None:
    async with connect(server.url, TOKEN, draw=lambda: 0.0) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        tasks.start_soon(subscribed, peer, "bob", feed_of(5), "b1")
        bob = await feed.watch("bob")
        await peer.close(1001)
        again = await server.accept()
        assert again.query["since"] == "c1"
        await again.welcome()
        heard = await again.hear("feed.subscribe")
        assert heard.params == {"feeds": [{"feed": "bob", "since": "b1"}]}
        assert bob.state == feed_of(5)
        await again.delta(feed_of(5), "b1", feed_of(6), "b2", "bob")
        with anyio.fail_after(PATIENCE_S):
            async for state in bob:
                if state == feed_of(6):
                    break


async def test_a_feed_that_may_not_be_watched_is_refused_and_not_asked_for_again(
    server: Server, clock: TestClock
) -> None:
    async with connect(server.url, TOKEN, draw=lambda: 0.0) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")

        async def refuse_one() -> None:
            heard = await peer.hear("feed.subscribe")
            await peer.answer(heard, {"feeds": [{"feed": "bob", "error": FeedNotFound("bob").wire()}]})

        async def refuse_all() -> None:
            await peer.refuse(await peer.hear("feed.subscribe"), Forbidden("feed:watch"))

        tasks.start_soon(refuse_one)
        with pytest.raises(FeedClosed) as closed:
            await feed.watch("bob")
        assert isinstance(closed.value.error, FeedNotFound)
        tasks.start_soon(refuse_all)
        with pytest.raises(Forbidden):
            await feed.watch("eve")
        await peer.close(1001)
        again = await server.accept_live(feed_of(1), "c2")
        tasks.start_soon(answer, again, "connection.ping", {"at": "2026-03-02T09:00:00Z"})
        await feed.ping()  # the first thing that the new connection hears


async def test_a_temporary_refusal_is_waited_out(server: Server, clock: TestClock) -> None:
    notes = Notes()
    async with (
        connect(server.url, TOKEN, on_notification=notes) as feed,
        anyio.create_task_group() as tasks,
    ):
        peer = await server.accept_live(feed_of(0), "c1")
        bobs: list[object] = []

        async def watch() -> None:
            bobs.append(await feed.watch("bob"))

        tasks.start_soon(watch)
        first = await peer.hear("feed.subscribe")
        await peer.refuse(first, RateLimited(2_000))
        await notes.up_to_here(peer)
        await clock.advance(2)
        second = await peer.hear("feed.subscribe")
        await peer.answer(second, {"feeds": [{"feed": "bob", "error": RateLimited(3_000).wire()}]})
        await notes.up_to_here(peer)
        await clock.advance(3)
        await subscribed(peer, "bob", feed_of(1), "b1")
        await until(lambda: bool(bobs))


async def test_a_subscription_that_the_server_ends_ends_its_readers(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        tasks.start_soon(subscribed, peer, "bob", feed_of(5), "b1")
        bob = aiter(await feed.watch("bob"))
        assert await newest(bob) == feed_of(5)
        await peer.say("feed.closed", {"feed": "bob", "reason": "gone"})
        with pytest.raises(FeedClosed, match="bob can no longer be watched: gone"):
            await newest(bob)
        await peer.delta(feed_of(5), "b1", feed_of(6), "b2", "bob")  # too late: nobody asks for it anew
        await peer.delta(feed_of(0), "c1", feed_of(1), "c2")
        with anyio.fail_after(PATIENCE_S):
            async for state in feed:
                if state == feed_of(1):
                    break


async def test_what_is_watched_no_longer_is_unsubscribed(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        tasks.start_soon(subscribed, peer, "bob", feed_of(5), "b1")
        bob = await feed.watch("bob")
        tasks.start_soon(answer, peer, "feed.unsubscribe", NOTHING)
        await feed.unwatch("bob")
        await feed.unwatch("bob")
        with pytest.raises(FeedClosed):
            async for _ in bob:
                pass


async def test_a_client_without_a_feed_of_its_own_is_live_with_the_welcome(server: Server) -> None:
    async with connect(server.url, TOKEN, own=False) as feed:
        peer = await server.accept()
        assert peer.query["own"] == "0"
        assert feed.status is Status.CONNECTING
        await peer.welcome()
        with anyio.fail_after(PATIENCE_S):
            await feed.wait_status(Status.LIVE)
        assert feed.state is None
