from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from protocol.client import (
    CallTimedOut,
    ConnectionLost,
    LiveFeed,
    MessageTooBig,
    NotConnected,
    Status,
    Stopped,
    connect,
)
from protocol.errors import InvalidParams, Issue, RateLimited, VersionConflict
from protocol.feed import FeedItem, SourceError
from protocol.frozen import JsonObject, JsonValue
from protocol.messages.objects import SourceState
from tests.protocol.client.peers import LIMITS, PATIENCE_S, Heard, Notes, Peer, Server, feed_of, until
from tests.protocol.strategies import START
from tests.protocol.test_messages import ERROR, ITEM, METHOD_SAMPLES, STATE
from tests.support.clock import TestClock

TOKEN = "aaa.bbb.ccc"


class Failures:
    """Gathers what a call raised."""

    def __init__(self) -> None:
        self.raised: list[Exception] = []

    async def of(self, call: Awaitable[object]) -> None:
        try:
            await call
        except Exception as failure:
            self.raised.append(failure)


async def call_and_answer(peer: Peer, call: Awaitable[object], result: JsonValue) -> tuple[object, object]:
    """What the server heard, and what the caller got for that answer."""
    got: list[object] = []

    async def run() -> None:
        got.append(await call)

    asked: list[Heard] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        asked.append(await peer.hear())
        await peer.answer(asked[0], result)
    return (asked[0].method, dict(asked[0].params)), got[0]


async def test_a_call_made_before_there_is_a_connection_waits_for_it(server: Server) -> None:
    failures = Failures()
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        tasks.start_soon(failures.of, feed.call("source.list", {"schemas": True}))
        peer = await server.accept()
        await peer.welcome()
        heard = await peer.hear("source.list")
        assert heard.params == {"schemas": True}
        await peer.answer(heard, {"sources": []})
    assert failures.raised == []


async def test_without_a_connection_in_time_nothing_was_sent(clock: TestClock, free_url: str) -> None:
    failures = Failures()
    async with connect(free_url, TOKEN, call_timeout_s=5) as feed, anyio.create_task_group() as tasks:
        tasks.start_soon(failures.of, feed.call("item.dismiss", {"id": "s/a"}))
        await clock.advance(5)
    assert [type(failure) for failure in failures.raised] == [NotConnected]


async def test_an_error_answer_is_raised_as_its_own_class(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        failures = Failures()
        for error in (VersionConflict("s", 7), RateLimited(250), InvalidParams([Issue(("a",), "m")])):
            tasks.start_soon(failures.of, feed.patch_source("s", config={"a": 1}, if_version=3))
            heard = await peer.hear("source.patch")
            assert heard.params == {"sourceId": "s", "config": {"a": 1}, "ifVersion": 3, "verify": False}
            await peer.refuse(heard, error)
        await until(lambda: len(failures.raised) == 3)
        conflict, limited, invalid = failures.raised
        assert isinstance(conflict, VersionConflict)
        assert conflict.version == 7
        assert isinstance(limited, RateLimited)
        assert limited.retry_in_ms == 250
        assert isinstance(invalid, InvalidParams)
        assert feed.status is Status.LIVE


async def test_answers_find_their_callers_in_any_order(server: Server) -> None:
    got: dict[str, JsonValue] = {}
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")

        async def ask(name: str) -> None:
            got[name] = await feed.call("source.get", {"sourceId": name})

        for name in "abc":
            tasks.start_soon(ask, name)
        heard = [await peer.hear("source.get") for _ in range(3)]
        for one in reversed(heard):
            await peer.answer(one, one.params["sourceId"])
            await peer.answer(one, "a second answer to the same request")
    assert got == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize(
    ("method", "params", "repeatable"),
    [
        ("source.patch", {"sourceId": "s"}, True),
        ("item.publish", {"feed": "a"}, True),
        ("action.execute", {"sourceId": "s", "actionId": "a"}, False),
        ("action.execute", {"sourceId": "s", "actionId": "a", "key": "k"}, True),
    ],
)
async def test_a_call_whose_connection_ends_may_or_may_not_have_been_done(
    server: Server, method: str, params: JsonObject, repeatable: bool
) -> None:
    failures = Failures()
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        tasks.start_soon(failures.of, feed.call(method, params))
        await peer.hear(method)
        peer.drop()
        await until(lambda: bool(failures.raised))
    (lost,) = failures.raised
    assert isinstance(lost, ConnectionLost)
    assert (lost.method, lost.repeatable) == (method, repeatable)


async def test_a_call_that_is_not_answered_in_time_fails_and_the_connection_stays(
    server: Server, clock: TestClock
) -> None:
    notes = Notes()
    async with connect(server.url, TOKEN, on_notification=notes) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        failures = Failures()
        tasks.start_soon(failures.of, feed.call("feed.refresh", {}, timeout_s=7))
        late = await peer.hear("feed.refresh")
        await clock.advance(7)
        assert [type(failure) for failure in failures.raised] == [CallTimedOut]
        await peer.answer(late, {"cursor": "c9"})
        await notes.up_to_here(peer)
        assert feed.status is Status.LIVE


async def test_a_message_over_the_bound_is_not_sent(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        with pytest.raises(MessageTooBig):
            await feed.call("source.patch", {"sourceId": "s", "config": {"a": "x" * 65_536}})
        (asked, _) = await call_and_answer(peer, feed.dismiss("s/a"), {})
        assert asked == ("item.dismiss", {"id": "s/a"})


async def test_a_server_may_take_less_and_says_so_in_its_welcome(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept()
        await peer.welcome(limits={**LIMITS, "maxMessageBytes": 16_384})
        await peer.snapshot(feed_of(0), "c1")
        await until(lambda: feed.status is Status.LIVE)
        with pytest.raises(MessageTooBig):
            await feed.call("source.patch", {"sourceId": "s", "config": {"a": "x" * 17_000}})


async def test_a_cancelled_call_leaves_the_connection_as_it_was(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed, anyio.create_task_group() as tasks:
        peer = await server.accept_live(feed_of(0), "c1")
        scope = anyio.CancelScope()

        async def call() -> None:
            with scope:
                await feed.call("feed.refresh", {})

        tasks.start_soon(call)
        heard = await peer.hear("feed.refresh")
        scope.cancel()
        await peer.answer(heard, {"cursor": "c9"})
        await call_and_answer(peer, feed.dismiss("s/a"), {})
        assert feed.status is Status.LIVE


CALLS: list[tuple[Callable[[LiveFeed], Awaitable[object]], str, JsonObject, JsonValue]] = [
    (lambda f: f.list_sources(schemas=True, user="bob"), "source.list", {"schemas": True, "user": "bob"},
     {"sources": [STATE]}),
    (lambda f: f.get_source("s"), "source.get", {"sourceId": "s", "schemas": False}, STATE),
    (lambda f: f.patch_source("s", enabled=False), "source.patch",
     {"sourceId": "s", "enabled": False, "verify": False}, STATE),
    (lambda f: f.put_source("s", config={"a": None}, credentials={"p": 1}, if_version=0, verify=True),
     "source.put",
     {"sourceId": "s", "enabled": True, "config": {"a": None}, "credentials": {"p": 1}, "ifVersion": 0,
      "verify": True}, STATE),
    (lambda f: f.authorize_source("s", {"p": 1}), "source.authorize",
     {"sourceId": "s", "credentials": {"p": 1}}, STATE),
    (lambda f: f.delete_source("s"), "source.delete", {"sourceId": "s"}, {}),
    (lambda f: f.preview_source("s", config={}), "source.preview", {"sourceId": "s", "config": {}},
     METHOD_SAMPLES["source.preview"][1]),
    (lambda f: f.execute("s", "a", [1], key="k"), "action.execute",
     {"sourceId": "s", "actionId": "a", "params": [1], "key": "k"}, {"result": {"x": 1}}),
    (lambda f: f.publish("bob", [{"id": "a"}]), "item.publish", {"feed": "bob", "items": [{"id": "a"}]},
     {"accepted": 1, "reachable": {}}),
    (lambda f: f.publish(["bob", "eve"], []), "item.publish", {"feeds": ["bob", "eve"], "items": []},
     {"accepted": 2, "reachable": {"bob": 1}}),
    (lambda f: f.retract("bob", ["a"]), "item.retract", {"feed": "bob", "ids": ["a"]}, {"removed": 1}),
    (lambda f: f.refresh(), "feed.refresh", {}, {"cursor": "c"}),
    (lambda f: f.info(), "connection.info", {}, METHOD_SAMPLES["connection.info"][1]),
    (lambda f: f.background(5), "connection.background", {"keepMs": 5}, {}),
    (lambda f: f.background(), "connection.background", {}, {}),
    (lambda f: f.foreground(), "connection.foreground", {}, {}),
]  # fmt: skip


async def test_every_function_sends_its_request_and_reads_its_answer(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        for call, method, params, result in CALLS:
            asked, got = await call_and_answer(peer, call(feed), result)
            assert asked == (method, params)
            assert method.endswith((".delete", "ground", ".refresh")) == (got is None)


async def test_answers_come_as_the_types_that_the_functions_promise(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        _, at = await call_and_answer(peer, feed.ping(), {"at": "2026-03-02T09:00:00Z"})
        assert at == START
        wire = METHOD_SAMPLES["source.preview"][1]
        _, shown = await call_and_answer(peer, feed.preview_source("s"), wire)
        assert shown == ((FeedItem.from_wire(ITEM),), (SourceError.from_wire(ERROR),))
        _, state = await call_and_answer(peer, feed.get_source("s"), STATE)
        assert isinstance(state, SourceState)
        assert state.version == 3
        _, removed = await call_and_answer(peer, feed.retract(["bob"], ["a"]), {"removed": 3})
        assert removed == 3


async def test_an_action_gets_a_key_of_its_own_each_time(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        keys: set[object] = set()
        for _ in range(2):
            asked, result = await call_and_answer(peer, feed.execute("s", "a"), {"result": None})
            assert result is None
            keys.add(str(asked))
        assert len(keys) == 2


async def test_notifications_are_passed_on_and_a_callback_that_fails_hurts_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[str] = []

    def fail(method: str, params: JsonObject) -> None:
        taken.append(method)
        raise RuntimeError("of the callback")

    async with connect(server.url, TOKEN, on_notification=fail) as feed:
        peer = await server.accept_live(feed_of(0), "c1")
        await peer.say("source.changed", {"source": STATE})
        await peer.delta(feed_of(0), "c1", feed_of(1), "c2")
        with anyio.fail_after(PATIENCE_S):
            async for state in feed:
                if state == feed_of(1):
                    break
    assert taken == ["connection.welcome", "feed.snapshot", "source.changed", "feed.delta"]
    assert all(record.message.startswith("on_notification failed") for record in caplog.records)


async def test_leaving_says_goodbye_and_fails_what_still_waits(server: Server) -> None:
    failures = Failures()
    async with anyio.create_task_group() as tasks:
        async with connect(server.url, TOKEN) as feed:
            peer = await server.accept_live(feed_of(0), "c1")
            tasks.start_soon(failures.of, feed.call("feed.refresh", {}))
            await peer.hear("feed.refresh")
        assert await peer.wait_closed() == 1000
        tasks.start_soon(failures.of, feed.call("feed.refresh", {}))
        tasks.start_soon(failures.of, anext(aiter(feed)))
        assert feed.status is Status.STOPPED
    assert sorted(type(failure).__name__ for failure in failures.raised) == ["ConnectionLost", "Stopped"]


async def test_the_last_state_can_be_read_after_leaving(server: Server) -> None:
    async with connect(server.url, TOKEN) as feed:
        await server.accept_live(feed_of(0), "c1")
        async for _ in feed:
            break
    assert feed.state == feed_of(0)
    states = aiter(feed)
    assert await anext(states) == feed_of(0)
    with pytest.raises(Stopped):
        await anext(states)


async def test_what_leaves_the_body_leaves_as_it_is(server: Server) -> None:
    async def fail() -> None:
        async with connect(server.url, TOKEN):
            await server.accept()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_being_cancelled_ends_the_client_at_once(server: Server) -> None:
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            async with connect(server.url, TOKEN) as feed:
                async for _ in feed:
                    shown.set()

        shown = anyio.Event()
        tasks.start_soon(follow)
        peer = await server.accept_live(feed_of(0), "c1")
        await shown.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            assert await peer.wait_closed() == 1000


@pytest.mark.parametrize(
    ("url", "path"),
    [("{}", "/v1/feed"), ("{}/", "/v1/feed"), ("{}/elsewhere", "/elsewhere"), ("http{}", "/v1/feed")],
)
async def test_an_address_may_be_short(server: Server, url: str, path: str) -> None:
    address = url.format(server.url.removeprefix("ws") if url.startswith("http") else server.url)
    async with connect(address, TOKEN):
        assert (await server.accept()).path == path


async def test_the_options_are_the_protocols_url_parameters(server: Server) -> None:
    async with connect(
        f"{server.url}?shard=2",
        TOKEN,
        own=False,
        delta=False,
        context=True,
        settings=False,
        debug=True,
        deflate=False,
        min_interval_ms=250,
        heartbeat_ms=30_000,
        client="phone-1",
        headers={"X-Trace": "t"},
    ):
        peer = await server.accept()
    assert peer.query == {
        "shard": "2",
        "beat": "1",
        "own": "0",
        "delta": "0",
        "context": "1",
        "settings": "0",
        "debug": "1",
        "deflate": "0",
        "minIntervalMs": "250",
        "heartbeatMs": "30000",
        "client": "phone-1",
    }
    assert peer.headers["X-Trace"] == "t"
    assert "Sec-WebSocket-Extensions" not in peer.headers


MISTAKES: list[Callable[[], AbstractAsyncContextManager[LiveFeed]]] = [
    lambda: connect("ftp://127.0.0.1", TOKEN),
    lambda: connect("127.0.0.1:8080", TOKEN),
    lambda: connect("ws://127.0.0.1:99999", TOKEN),
    lambda: connect("ws://127.0.0.1", ""),
    lambda: connect("ws://127.0.0.1", "two words"),
    lambda: connect("ws://127.0.0.1", "a\r\nX: y"),
    lambda: connect("ws://127.0.0.1", "x" * 6_145),
    lambda: connect("ws://127.0.0.1", TOKEN, heartbeat_ms=100),
    lambda: connect("ws://127.0.0.1", TOKEN, client="a b"),
    lambda: connect("ws://127.0.0.1", TOKEN, tls=ssl.create_default_context()),
]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_of_the_caller_is_told_before_anything_is_sent(
    mistake: Callable[[], AbstractAsyncContextManager[LiveFeed]],
) -> None:
    with pytest.raises(ValueError):
        await mistake().__aenter__()
