from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from protocol.client import End, LiveFeed, SignInRequired, Status, Stopped, connect
from protocol.errors import InvalidToken
from tests.protocol.client.peers import PATIENCE_S, Notes, Peer, Server, feed_of, until
from tests.support.clock import TestClock

TOKEN = "aaa.bbb.ccc"

# What the protocol's table says, with the jitter drawn at its highest.
WAITS: list[tuple[int, str, float]] = [
    (1000, "", 1.0),
    (1001, "", 1.0),
    (1002, "", 1.0),
    (1007, "", 1.0),
    (1009, "", 1.0),
    (1011, "", 1.0),
    (1012, "", 1.0),
    (1013, "", 30.0),
    (1013, "retryInMs=2500", 2.5),
    (4429, "retryInMs=700", 0.7),
    (4429, "", 30.0),
    (4408, "", 1.0),
    (4499, "", 1.0),
]


class Tokens:
    """A callback that gives t.1, t.2, ..."""

    def __init__(self) -> None:
        self.given = 0

    async def __call__(self) -> str:
        self.given += 1
        return f"t.{self.given}"


@asynccontextmanager
async def live(
    server: Server, token: str | Tokens = TOKEN, draw: Callable[[], float] = lambda: 1.0
) -> AsyncGenerator[tuple[LiveFeed, Peer]]:
    """A client that shows a first state, and its peer."""
    async with connect(server.url, token, draw=draw) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        await status(feed, Status.LIVE)
        yield feed, peer


async def status(feed: LiveFeed, *wanted: Status) -> None:
    with anyio.fail_after(PATIENCE_S):
        await feed.wait_status(*wanted)


async def ended(feed: LiveFeed) -> None:
    await status(feed, Status.STALE, Status.STOPPED)


async def comes_back_after(server: Server, clock: TestClock, wait_s: float) -> Peer:
    """The client connects again exactly after so long."""
    before = server.attempts
    await clock.advance(wait_s - 0.05, quiet_s=0.02)
    assert server.attempts == before
    await clock.advance(0.05)
    return await server.accept()


@pytest.mark.parametrize(("code", "reason", "wait_s"), WAITS)
async def test_after_a_close_the_client_comes_back_when_the_table_says(
    server: Server, clock: TestClock, code: int, reason: str, wait_s: float
) -> None:
    async with live(server) as (feed, peer):
        await peer.close(code, reason)
        await ended(feed)
        assert feed.last_end == End(code, reason)
        assert feed.state == feed_of(0)
        await comes_back_after(server, clock, wait_s)


@pytest.mark.parametrize("code", [4400, 4403, 4409])
async def test_some_closes_are_for_good(server: Server, code: int) -> None:
    async with live(server) as (feed, peer):
        await peer.close(code, "because")
        with pytest.raises(Stopped, match="because") as stopped:
            async for _ in feed:
                pass
        assert stopped.value.code == code
        assert feed.status is Status.STOPPED
        assert feed.state == feed_of(0)
        with pytest.raises(Stopped):
            await feed.call("connection.ping")


async def test_a_cut_line_is_come_back_from_with_backoff(server: Server, clock: TestClock) -> None:
    async with live(server) as (feed, peer):
        peer.drop()
        await ended(feed)
        assert feed.last_end is not None
        assert feed.last_end.code == 1006
        await comes_back_after(server, clock, 1.0)


async def test_the_backoff_doubles_to_half_a_minute_and_starts_anew_after_a_steady_connection(
    server: Server, clock: TestClock
) -> None:
    async with live(server) as (feed, peer):
        for wait_s in (1, 2, 4, 8, 16, 30, 30):
            await peer.close(1011)
            await ended(feed)
            peer = await comes_back_after(server, clock, wait_s)
            await peer.welcome()
            await peer.snapshot(feed_of(0), "c1")
            await status(feed, Status.LIVE)
        await clock.advance(30)
        await peer.close(1011)
        await ended(feed)
        await comes_back_after(server, clock, 1.0)


async def test_a_client_that_comes_back_resumes_from_its_cursor_and_may_find_nothing_new(
    server: Server, clock: TestClock
) -> None:
    async with live(server) as (feed, peer):
        assert "since" not in peer.query
        states = aiter(feed)
        assert await anext(states) == feed_of(0)
        await peer.close(1001)
        again = await comes_back_after(server, clock, 1.0)
        assert again.query["since"] == "c1"
        await again.welcome()
        await again.delta(feed_of(0), "c1", feed_of(0), "c2")
        await status(feed, Status.LIVE)
        await again.delta(feed_of(0), "c2", feed_of(1), "c3")
        with anyio.fail_after(PATIENCE_S):
            assert await anext(states) == feed_of(1)


async def test_a_server_that_is_away_is_waited_for(server: Server, clock: TestClock) -> None:
    server.refuse(502)
    async with connect(server.url, TOKEN, draw=lambda: 1.0) as feed:
        assert feed.status is Status.CONNECTING
        await until(lambda: feed.last_end is not None)
        assert feed.last_end == End(1006, "HTTP 502")
        await comes_back_after(server, clock, 1.0)


async def test_nobody_listening_is_come_back_from(clock: TestClock, free_url: str) -> None:
    async with connect(free_url, TOKEN, draw=lambda: 1.0) as feed:
        await until(lambda: feed.last_end is not None)
        assert feed.last_end is not None
        assert feed.last_end.code == 1006
        assert feed.status is Status.CONNECTING


REFUSED: list[tuple[int, dict[str, str], float]] = [
    (503, {"Retry_After": "7"}, 7.0),
    (503, {"Retry_After": "soon"}, 30.0),
    (429, {"Retry_After": "2"}, 2.0),
    (429, {}, 30.0),
    (500, {}, 1.0),
    (301, {"Location": "ws://127.0.0.1:1/"}, 1.0),
]


@pytest.mark.parametrize(("status_code", "headers", "wait_s"), REFUSED)
async def test_a_refused_upgrade_is_waited_out_as_it_says(
    server: Server, clock: TestClock, status_code: int, headers: dict[str, str], wait_s: float
) -> None:
    server.refuse(status_code, **headers)
    async with connect(server.url, TOKEN, draw=lambda: 1.0) as feed:
        await until(lambda: feed.last_end is not None)
        await comes_back_after(server, clock, wait_s)


@pytest.mark.parametrize("status_code", [400, 403])
async def test_an_upgrade_refused_for_good_stops_the_client(server: Server, status_code: int) -> None:
    server.refuse(status_code)
    async with connect(server.url, TOKEN) as feed:
        with pytest.raises(Stopped, match=f"HTTP {status_code}"):
            await feed.call("connection.ping")


async def test_a_server_that_speaks_something_else_is_come_back_to(server: Server, clock: TestClock) -> None:
    server.subprotocol = None
    async with connect(server.url, TOKEN, draw=lambda: 1.0) as feed:
        await server.accept()
        await until(lambda: feed.last_end is not None)
        assert feed.last_end == End(1002, "the server does not speak freya.v1")


@pytest.mark.parametrize(
    "frame", [b"nonsense", b"[]", b'{"jsonrpc":"2.0","method":"feed.snapshot","params":{"feed":"alice"}}']
)
async def test_a_server_that_sends_nonsense_is_left_and_come_back_to(
    server: Server, clock: TestClock, frame: bytes
) -> None:
    async with live(server) as (feed, peer):
        await peer.send(frame)
        await ended(feed)
        assert feed.last_end is not None
        assert feed.last_end.code == 1002
        await comes_back_after(server, clock, 1.0)


async def test_what_a_client_does_not_know_it_passes_over(server: Server) -> None:
    async with live(server) as (feed, peer):
        await peer.say("feed.sparkle", {"x": 1})
        await peer.send(b'{"jsonrpc":"2.0","id":9,"result":{}}')
        await peer.send(b'{"jsonrpc":"2.0","id":"theirs","method":"client.dance"}')
        await peer.delta(feed_of(0), "c1", feed_of(1), "c2")
        with anyio.fail_after(PATIENCE_S):
            async for state in feed:
                if state == feed_of(1):
                    break


async def test_a_link_that_falls_silent_is_noticed_a_grace_after_the_heartbeat(
    server: Server, clock: TestClock
) -> None:
    notes = Notes()
    async with connect(server.url, TOKEN, heartbeat_ms=20_000, on_notification=notes) as feed:
        peer = await server.accept()
        assert (peer.query["heartbeatMs"], peer.query["beat"]) == ("20000", "1")
        await peer.welcome(heartbeatMs=20_000)
        await peer.snapshot(feed_of(0), "c1")
        await status(feed, Status.LIVE)
        for _ in range(3):
            await clock.advance(29.9)
            await peer.say("connection.beat", {"at": "2026-03-02T09:00:00Z"})
            await notes.up_to_here(peer)
        await clock.advance(29.9)
        assert feed.status is Status.LIVE
        await clock.advance(0.2)
        assert feed.status is Status.STALE
        assert feed.last_end == End(4408, "the server fell silent")
        await clock.advance(2.0)  # its own goodbye is never answered; then the jitter of up to a second
        await server.accept()


async def test_a_server_that_never_says_welcome_is_left(server: Server, clock: TestClock) -> None:
    async with connect(server.url, TOKEN, draw=lambda: 0.0) as feed:
        peer = await server.accept()
        await (await peer.socket.ping())  # the client is there, and reads
        await clock.advance(35)
        assert feed.last_end == End(4408, "the server fell silent")


async def test_in_the_background_silence_is_no_sign_of_death(server: Server, clock: TestClock) -> None:
    async with live(server) as (feed, peer), anyio.create_task_group() as tasks:

        async def answer(method: str) -> None:
            await peer.answer(await peer.hear(method), {})

        tasks.start_soon(answer, "connection.background")
        await feed.background(600_000)
        await clock.advance(590)
        assert feed.status is Status.LIVE
        tasks.start_soon(answer, "connection.foreground")
        await feed.foreground()
        await clock.advance(35)
        assert feed.status is Status.STALE


async def test_a_refused_token_is_replaced_at_once_and_a_second_refusal_means_signing_in(
    server: Server, clock: TestClock
) -> None:
    async with live(server, Tokens()) as (feed, peer):
        assert peer.headers["Authorization"] == "Bearer t.1"
        await peer.close(4401)
        again = await server.accept()
        assert again.headers["Authorization"] == "Bearer t.2"
        await again.close(4401)
        with pytest.raises(SignInRequired):
            async for _ in feed:
                pass
        assert feed.status is Status.STOPPED


async def test_a_refusal_long_after_a_welcome_is_the_first_in_its_row(server: Server) -> None:
    tokens = Tokens()
    async with live(server, tokens) as (feed, peer):
        for n in range(2, 5):
            await peer.close(4401)
            peer = await server.accept_live(feed_of(0), "c1")
            await status(feed, Status.LIVE)
            assert peer.headers["Authorization"] == f"Bearer t.{n}"


async def test_http_401_is_a_refused_token_too(server: Server) -> None:
    server.refuse(401)
    async with connect(server.url, Tokens()):
        assert (await server.accept()).headers["Authorization"] == "Bearer t.2"


async def test_a_client_with_one_token_alone_asks_to_sign_in_at_once(server: Server) -> None:
    server.refuse(401)
    async with connect(server.url, TOKEN) as feed:
        with pytest.raises(SignInRequired, match="no other"):
            await feed.call("connection.ping")
    assert server.attempts == 1


async def test_a_reconnect_uses_the_token_in_hand(server: Server) -> None:
    tokens = Tokens()
    async with live(server, tokens, draw=lambda: 0.0) as (_, peer):
        await peer.close(1001)
        assert (await server.accept()).headers["Authorization"] == "Bearer t.1"
        assert tokens.given == 1


async def test_a_token_that_expires_is_renewed_over_the_connection(server: Server) -> None:
    async with live(server, Tokens(), draw=lambda: 0.0) as (feed, peer):
        await peer.say("connection.expiring", {"inMs": 60_000})
        heard = await peer.hear("connection.renew")
        assert heard.params == {"token": "t.2"}
        await peer.answer(heard, {"expiresAt": "2026-03-02T11:00:00Z"})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.ping)
            await peer.answer(await peer.hear("connection.ping"), {"at": "2026-03-02T09:00:00Z"})
        await peer.close(1001)
        assert (await server.accept()).headers["Authorization"] == "Bearer t.2"


async def test_a_refused_renewal_leaves_the_old_token_to_its_end(server: Server) -> None:
    async with live(server, Tokens(), draw=lambda: 0.0) as (feed, peer):
        await peer.say("connection.expiring", {"inMs": 60_000})
        await peer.refuse(await peer.hear("connection.renew"), InvalidToken("expired"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.ping)
            await peer.answer(await peer.hear("connection.ping"), {"at": "2026-03-02T09:00:00Z"})
        assert feed.status is Status.LIVE
        await peer.close(4401)
        assert (await server.accept()).headers["Authorization"] == "Bearer t.3"


async def test_a_callback_that_fails_is_asked_again_later(
    server: Server, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise OSError("the identity provider is away")
        return TOKEN

    async with connect(server.url, token, draw=lambda: 1.0) as feed:
        await clock.settle()
        assert feed.last_end == End(1006, "no token could be had")
        await clock.advance(1)
        await comes_back_after(server, clock, 2.0)
    assert [record.message for record in caplog.records] == ["no token could be had"] * 2


async def test_a_callback_can_say_that_there_is_nobody_signed_in(server: Server) -> None:
    async def token() -> str:
        raise SignInRequired(4401, "signed out")

    async with connect(server.url, token) as feed:
        with pytest.raises(SignInRequired, match="signed out"):
            await anext(aiter(feed))
    assert server.attempts == 0


async def test_the_token_can_go_as_a_subprotocol(server: Server) -> None:
    async with connect(server.url, TOKEN, token_as="subprotocol"):
        peer = await server.accept()
    assert "Authorization" not in peer.headers
    assert peer.headers["Sec-WebSocket-Protocol"] == f"freya.v1, bearer.{TOKEN}"


async def test_the_status_tells_what_is_shown(server: Server, clock: TestClock) -> None:
    notes = Notes()
    async with connect(server.url, TOKEN, draw=lambda: 1.0, on_notification=notes) as feed:
        seen = [feed.status]

        async def note() -> None:
            while True:
                await feed.wait_status(*(one for one in Status if one is not seen[-1]))
                seen.append(feed.status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note)
            peer = await server.accept()
            await peer.welcome()
            await notes.up_to_here(peer)
            assert seen == [Status.CONNECTING]
            await peer.snapshot(feed_of(0), "c1")
            await until(lambda: seen[-1] is Status.LIVE)
            await peer.close(1001)
            await until(lambda: seen[-1] is Status.STALE)
            await clock.advance(1)
            again = await server.accept()
            await again.welcome()
            await notes.up_to_here(again)
            assert seen == [Status.CONNECTING, Status.LIVE, Status.STALE]
            await again.delta(feed_of(0), "c1", feed_of(0), "c2")
            await until(lambda: seen[-1] is Status.LIVE)
            await again.close(4403)
            await until(lambda: seen[-1] is Status.STOPPED)
            tasks.cancel_scope.cancel()
    went = [Status.CONNECTING, Status.LIVE, Status.STALE, Status.LIVE, Status.STALE, Status.STOPPED]
    assert seen == went
