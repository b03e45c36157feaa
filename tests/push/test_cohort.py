"""Those who stand at one place are served together; who differs is served on its own, and loses nothing.

All of it by the transports, and again by the loop in C where there is a compiler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from protocol.ids import UserId
from server.build_native import NoCompiler, build
from server.push import PushOptions
from server.push.cohort import Cohort
from server.push.connection import Connection
from server.push.frames import PING_FRAME
from server.push.native import SendAll, load
from server.push.subscription import Form, Position, Subscription
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, Peer, open_peer, open_raw
from tests.push.test_conflation import LONG, RawFollower, fill
from tests.push.test_lifetime import CALM
from tests.support.clock import TestClock

# Cohorts of two, and four sockets a turn of the loop.
SMALL = PushOptions(cohorts_from=1, pushes_at_once=8)
TIGHT = PushOptions(cohorts_from=1, unsent_low_bytes=4096, write_high_bytes=8192, write_low_bytes=1024)
WATCH = "feed:watch"


@pytest.fixture(scope="session")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> SendAll:
    """The loop, compiled for the occasion."""
    library = tmp_path_factory.mktemp("native") / "fanout_loop.so"
    try:
        build(library)
    except NoCompiler as why:
        pytest.skip(f"the fan-out's loop in C is not tested: {why}")
    return load(library)


@pytest.fixture(params=["transports", "in C"])
def send_all(request: pytest.FixtureRequest) -> SendAll | None:
    """Both ways to write."""
    return request.getfixturevalue("in_c") if request.param == "in C" else None


@asynccontextmanager
async def watching(server: Server, queries: Sequence[str]) -> AsyncGenerator[list[Follower]]:
    """Connections of the user's own, each with its query, that have the first state."""
    async with AsyncExitStack() as stack:
        feeds: list[Follower] = []
        for query in queries:
            compression = "deflate" if "deflate" in query else None
            peer = await stack.enter_async_context(
                open_peer(server.address, server.token(), query=query, compression=compression)
            )
            feeds.append(Follower(peer, ALICE))
            await feeds[-1].step()
        yield feeds


def subscriptions(server: Server) -> list[Subscription]:
    """In the order in which they came."""
    return [sub for connection in connections(server) for sub in connection.subs]


def among_others(sub: Subscription) -> Cohort | None:
    """Its cohort, asked anew: it changes behind the test's back."""
    return sub.cohort


def connections(server: Server) -> list[Connection]:
    return list(server.gateway.registry.of(ALICE))


async def until_together(server: Server, count: int) -> None:
    """What is served alone joins the others behind the next change that it got."""
    with anyio.fail_after(20):
        while sum(sub.cohort is not None for sub in subscriptions(server)) < count:
            await anyio.lowlevel.checkpoint()


async def show(server: Server, feeds: Sequence[Follower], text: str) -> None:
    """The user's board says it, and all get to see it."""
    server.board.show(ALICE, a=text)
    for feed in feeds:
        while feed.texts() != [text]:
            await feed.step()


@pytest.mark.loop("uvloop")
async def test_members_of_all_forms_get_every_change_in_cohorts_of_their_own(
    world: World, send_all: SendAll | None
) -> None:
    server = await world.start(options=replace(SMALL, send_all=send_all))
    forms = ["", "", "", "?delta=0", "?delta=0", "?deflate=1", "?context=1", ""]
    async with watching(server, forms) as feeds:
        for number in range(10):
            await show(server, feeds, f"{number} " + "long enough to be packed " * 20)
        subs = subscriptions(server)
        cohorts = {id(sub.cohort): sub.cohort for sub in subs}
        assert None not in cohorts.values()
        for cohort in cohorts.values():
            assert cohort is not None
            assert len({sub.form for sub in cohort}) == 1
            assert len(cohort) <= 2
            assert [sub.place for sub in cohort] == list(range(len(cohort)))
        current = subs[0].fanout.session.history.current
        assert {sub.cursor for sub in subs} == {current.cursor}
        assert {feed.cursor for feed in feeds} == {current.cursor}


async def test_few_subscribers_are_served_one_by_one(world: World) -> None:
    server = await world.start(options=PushOptions(cohorts_from=3))
    async with watching(server, ["", ""]) as feeds:
        await show(server, feeds, "to two")
        assert [sub.cohort for sub in subscriptions(server)] == [None, None]
        async with watching(server, [""]) as more:
            await show(server, [*feeds, *more], "to three")
            await until_together(server, 3)
            await show(server, [*feeds, *more], "together")


@pytest.mark.loop("asyncio", "uvloop")
async def test_a_full_socket_leaves_its_cohort_and_comes_back_with_one_delta(
    world: World, send_all: SendAll | None
) -> None:
    server = await world.start(options=replace(TIGHT, send_all=send_all))
    async with open_raw(server.address, server.token()) as peer, watching(server, [""]) as feeds:
        slow = RawFollower(peer)
        await slow.step()
        await show(server, feeds, "first")
        await until_together(server, 2)
        stalled = connections(server)[0]
        sent = await fill(server, stalled, peer)
        assert [sub.cohort is None for sub in subscriptions(server)] == [True, False]
        before = stalled.subs[0].position
        for number in range(20):
            await show(server, feeds, f"{number}")
        assert stalled.subs[0].position is before
        while slow.texts() != ["19"]:
            await slow.step()
        assert slow.frames <= sent + 4  # what had been written, and one for all that was missed
        await until_together(server, 2)
        await show(server, feeds, "after")
        while slow.texts() != ["after"]:
            await slow.step()


@pytest.mark.loop("uvloop")
async def test_replies_and_changes_keep_their_order_for_a_member(
    world: World, send_all: SendAll | None
) -> None:
    server = await world.start(options=replace(SMALL, send_all=send_all))
    async with watching(server, ["", ""]) as feeds:
        await show(server, feeds, "first")
        await until_together(server, 2)
        peer: Peer = feeds[0]._peer  # pyright: ignore[reportPrivateUsage] -- the one it was made with
        for number in range(10):
            server.board.show(ALICE, a=f"{number}")
            # The answer names a state that the client has been given before it.
            cursor = (await peer.call("feed.refresh"))["cursor"]
            while feeds[0].cursor != cursor:
                await feeds[0].step()
        await show(server, feeds, "last")
        await until_together(server, 2)


@pytest.mark.loop("uvloop")
async def test_a_member_in_the_background_is_told_nothing_and_then_all_at_once(
    world: World, send_all: SendAll | None
) -> None:
    server = await world.start(options=replace(SMALL, send_all=send_all))
    async with watching(server, ["", ""]) as feeds:
        await show(server, feeds, "first")
        await until_together(server, 2)
        peer: Peer = feeds[0]._peer  # pyright: ignore[reportPrivateUsage] -- the one it was made with
        await peer.call("connection.background", {})
        for number in range(5):
            await show(server, feeds[1:], f"{number}")
        assert "feed.delta" not in peer.methods()
        await peer.call("connection.foreground")
        assert await feeds[0].step() == "feed.delta"
        assert feeds[0].texts() == ["4"]
        await show(server, feeds, "after")
        await until_together(server, 2)


@pytest.mark.loop("uvloop")
async def test_a_member_that_follows_another_feed_too_gets_both(
    world: World, send_all: SendAll | None
) -> None:
    server = await world.start(options=replace(SMALL, send_all=send_all))
    async with watching(server, ["", ""]) as feeds:
        async with open_peer(server.address, server.token("alice", WATCH)) as both:
            own, other = Follower(both, ALICE), Follower(both, "bob")
            await own.step()
            await show(server, [*feeds, own], "one feed")
            async with open_peer(server.address, server.token("bob")):
                await both.call("feed.subscribe", {"feeds": [{"feed": "bob"}]})
                await other.step()
                await show(server, [*feeds, own], "two feeds")
                await both.call("feed.unsubscribe", {"feeds": ["bob"]})
                await show(server, [*feeds, own], "one again")
                await until_together(server, 3)
        await show(server, feeds, "it is gone")
        assert len(subscriptions(server)) == 2


async def test_the_last_member_that_leaves_takes_the_cohort_with_it(world: World) -> None:
    server = await world.start(options=SMALL)
    async with watching(server, [""]) as feeds:
        await show(server, feeds, "first")
        await until_together(server, 1)
        [fanout] = {sub.fanout for sub in subscriptions(server)}
    with anyio.fail_after(20):
        while server.gateway.statistics().feeds:
            await anyio.lowlevel.checkpoint()
    assert fanout.subs == []


async def test_what_a_cohort_was_sent_counts_against_silence(slow_world: World, clock: TestClock) -> None:
    """A client that only listens to a busy feed is pinged for its own silence, not over and over for ours."""
    options = PushOptions(cohorts_from=1, heartbeat_s=25.0)
    server = await slow_world.start(options=options, sessions=CALM)
    async with watching(server, [""]) as feeds:
        await show(server, feeds, "first")
        await until_together(server, 1)
        [connection] = connections(server)
        at_first = connection.line.sent
        await clock.advance(5.0, quiet_s=0.004)
        await show(server, feeds, "second")
        assert connection.line.sent == at_first  # the delivery has not touched it
        connection.sweep(clock.monotonic())
        assert connection.line.sent == clock.monotonic()


class Broken:
    """A transport that raises when it is to write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.broken = False

    def write(self, data: bytes) -> None:
        if self.broken:
            self.broken = False
            raise RuntimeError("of all things")
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


async def test_a_transport_that_raises_ends_its_connection_and_no_other(world: World) -> None:
    server = await world.start(options=PushOptions(cohorts_from=1))
    async with watching(server, [""] * 4) as feeds:
        second = connections(server)[1]
        for sub in subscriptions(server):
            sub.fanout.part(sub)
        broken = Broken(second.transport)
        second.transport = broken  # pyright: ignore[reportAttributeAccessIssue] -- it acts as one
        await show(server, feeds, "first")
        await until_together(server, 4)
        broken.broken = True
        others = [feeds[0], *feeds[2:]]
        await show(server, others, "second")
        peer: Peer = feeds[1]._peer  # pyright: ignore[reportPrivateUsage] -- the one it was made with
        assert (await peer.closed()).code == 1011
        await show(server, others, "third")
        await until_together(server, 3)


@pytest.mark.loop("uvloop")
async def test_long_changes_over_several_turns_reach_everybody(
    world: World, send_all: SendAll | None
) -> None:
    server = await world.start(options=replace(SMALL, send_all=send_all))
    async with watching(server, [""] * 12) as feeds:
        for number in range(5):
            server.board.show(ALICE, a=f"{number} {LONG}")
            await anyio.lowlevel.checkpoint()
            server.board.show(ALICE, a=f"{number} and at once {LONG}")
            for feed in feeds:
                while feed.texts() != [f"{number} and at once {LONG}"]:
                    await feed.step()


async def test_one_that_leaves_while_a_change_goes_round_gets_it_all_the_same(world: World) -> None:
    """A ping that does not fit into the socket makes it leave; nothing else tells that it was left out."""
    server = await world.start(options=replace(TIGHT, pushes_at_once=4))
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(open_raw(server.address, server.token())) for _ in range(8)]
        feeds = [RawFollower(peer) for peer in peers]
        for feed in feeds:
            await feed.step()
        server.board.show(ALICE, a="first")
        await until_together(server, 8)
        for peer in peers:
            peer.stall()
        left: list[Connection] = []

        def ping_the_others() -> None:
            for connection in connections(server):
                cursor = connection.subs[0].cursor
                while connection.subs[0].cohort is not None and cursor == before:
                    connection.write_now(PING_FRAME * 2000)
                    if among_others(connection.subs[0]) is None:
                        left.append(connection)

        [before] = {sub.cursor for sub in subscriptions(server)}
        server.board.show(ALICE, a="second")
        # The first turn of the round has been marked, this comes behind it, the next turn behind this.
        asyncio.get_running_loop().call_soon(ping_the_others)
        await anyio.lowlevel.checkpoint()
        assert left
        assert all(connection.writable for connection in left)
        for feed in feeds:
            while feed.texts() != ["second"]:
                await feed.step()


async def test_a_new_token_that_reaches_less_changes_what_a_member_is_sent(world: World) -> None:
    server = await world.start(options=SMALL)
    async with (
        open_peer(server.address, server.token()),
        open_peer(
            server.address, server.token("bob", WATCH, "feed:context"), query="?own=0&context=1"
        ) as watcher,
    ):
        await watcher.call("feed.subscribe", {"feeds": [{"feed": ALICE}]})
        feed = Follower(watcher, ALICE)
        await feed.step()
        [connection] = server.gateway.registry.of(UserId("bob"))
        [sub] = connection.subs
        server.board.show(ALICE, a="first")
        with anyio.fail_after(20):
            while (cohort := among_others(sub)) is None:
                await anyio.lowlevel.checkpoint()
        assert cohort.form & Form.CONTEXT
        # Without an id: no answer makes it leave its cohort.
        await watcher.send("connection.renew", {"token": server.token("bob", WATCH)})
        with anyio.fail_after(20):
            while sub.form & Form.CONTEXT:
                await anyio.lowlevel.checkpoint()
        server.board.show(ALICE, a="second")
        while feed.texts() != ["second"]:
            await feed.step()
        with anyio.fail_after(20):
            while (cohort := among_others(sub)) is None:
                await anyio.lowlevel.checkpoint()
        assert not cohort.form & Form.CONTEXT


async def test_many_small_cohorts_come_together_again(world: World) -> None:
    server = await world.start(options=PushOptions(cohorts_from=1, pushes_at_once=400))
    async with watching(server, [""] * 20) as feeds:
        await show(server, feeds, "first")
        await until_together(server, 20)
        subs = subscriptions(server)
        [fanout] = {sub.fanout for sub in subs}
        current = fanout.session.history.current
        for sub in subs:
            # As a slow round leaves them behind: each where it stands, on its own.
            fanout.part(sub)
            sub.position = Position(current.number, current.cursor)
            fanout.join(sub)
        await show(server, feeds, "second")
        await show(server, feeds, "third")
        await until_together(server, 20)
        assert len({id(sub.cohort) for sub in subs}) == 1
