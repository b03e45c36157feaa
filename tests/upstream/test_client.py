"""The shared client: one call for all, patience with what passes, none with what does not."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest
from pydantic import TypeAdapter

from server.engine.clock import SystemClock
from server.engine.source import (
    BadAnswer,
    ConfigProblem,
    RateLimited,
    SourceFailure,
    Unauthorized,
    Unreachable,
)
from server.upstream.client import ClientLimits, UpstreamClient
from server.upstream.counters import HostStatistics
from tests.support.clock import TestClock
from tests.support.ports import free_port
from tests.support.web import Answer, Asked, Reply, json_reply, open_web

NUMBERS = TypeAdapter(dict[str, int])
# No pause between tries, where the pause is not what is tested.
AT_ONCE = ClientLimits(wait_s=0.0)


def of_loopback(client: UpstreamClient) -> HostStatistics:
    return client.statistics()["127.0.0.1"]


async def failure_of(client: UpstreamClient, url: str, **arguments: Any) -> SourceFailure:
    with pytest.raises(SourceFailure) as caught:
        await client.get("Weather", url, **arguments)
    return caught.value


# One call for all


async def test_calls_for_the_same_thing_at_the_same_time_are_one() -> None:
    let = anyio.Event()

    async def answer(asked: Asked) -> Reply:
        await let.wait()
        return Reply(200, asked.target.encode())

    bodies: list[bytes] = []
    async with open_web(answer) as web, UpstreamClient(SystemClock()) as client:

        async def get(n: int) -> None:
            bodies.append(await client.get("Weather", f"{web.url}/a", params={"place": str(n % 2)}))

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(get, n)
            await web.wait_for(2)
            await anyio.wait_all_tasks_blocked()
            let.set()
        assert sorted(set(bodies)) == [b"/a?place=0", b"/a?place=1"]
        assert (len(bodies), len(web.requests), client.joined) == (100, 2, 98)


async def test_who_leaves_costs_nobody_else_the_answer() -> None:
    let = anyio.Event()

    async def answer(asked: Asked) -> Reply:
        await let.wait()
        return Reply(200, b"sunny")

    bodies: list[bytes] = []
    async with open_web(answer) as web, UpstreamClient(SystemClock()) as client:

        async def get() -> None:
            bodies.append(await client.get("Weather", web.url))

        async with anyio.create_task_group() as others:
            async with anyio.create_task_group() as first:
                first.start_soon(get)
                await web.wait_for(1)
                others.start_soon(get)
                others.start_soon(get)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
            await web.wait_for(2)
            let.set()
        assert bodies == [b"sunny", b"sunny"]
        assert len(web.requests) == 2


async def test_a_failure_reaches_everybody_who_waits_each_as_its_own() -> None:
    let = anyio.Event()

    async def answer(asked: Asked) -> Reply:
        await let.wait()
        return Reply(404)

    failures: list[SourceFailure] = []
    async with open_web(answer) as web, UpstreamClient(SystemClock()) as client:

        async def get() -> None:
            failures.append(await failure_of(client, web.url))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(get)
            await web.wait_for(1)
            await anyio.wait_all_tasks_blocked()
            let.set()
        assert len(web.requests) == 1
        assert len({id(failure) for failure in failures}) == 5
        assert all(isinstance(failure, ConfigProblem) for failure in failures)


# What is kept


async def test_an_answer_is_kept_as_long_as_its_server_allows() -> None:
    async with (
        open_web(lambda asked: Reply(200, b"hot", {"cache-control": "public, max-age=60"})) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        assert [await client.get("Weather", web.url) for _ in range(3)] == [b"hot"] * 3
        assert len(web.requests) == 1
        assert (of_loopback(client).calls, of_loopback(client).hits) == (1, 2)


@pytest.mark.parametrize("cache_control", ["no-store", "private, max-age=60", "max-age=0", ""])
async def test_an_answer_that_may_not_be_kept_is_asked_for_again(cache_control: str) -> None:
    headers = {"cache-control": cache_control} if cache_control else {}
    async with (
        open_web(lambda asked: Reply(200, b"hot", headers)) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        for _ in range(2):
            await client.get("Weather", web.url)
        assert len(web.requests) == 2


async def test_an_old_answer_without_word_on_keeping_is_not_taken_for_fresh() -> None:
    long_ago = format_datetime(datetime.now(UTC) - timedelta(days=100), usegmt=True)
    async with (
        open_web(lambda asked: Reply(200, b"hot", {"last-modified": long_ago})) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        for _ in range(2):
            await client.get("Weather", web.url)
        assert len(web.requests) == 2


async def test_an_answer_that_grew_old_is_asked_about_and_not_sent_again() -> None:
    old = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)

    def answer(asked: Asked) -> Reply:
        headers = {"cache-control": "max-age=60", "etag": '"v1"', "date": old}
        if asked.headers.get("if-none-match") == '"v1"':
            return Reply(304, b"", headers)
        return Reply(200, gzip.compress(b"hot"), {**headers, "content-encoding": "gzip"})

    async with open_web(answer) as web, UpstreamClient(SystemClock()) as client:
        assert [await client.get("Weather", web.url) for _ in range(3)] == [b"hot"] * 3
        assert [asked.headers.get("if-none-match") for asked in web.requests] == [None, '"v1"', '"v1"']
        assert of_loopback(client).revalidated == 2


async def test_what_is_kept_has_a_bound_and_the_oldest_goes_first() -> None:
    limits = ClientLimits(cache_bytes=100_000)
    async with (
        open_web(lambda asked: Reply(200, b"x" * 30_000, {"cache-control": "max-age=60"})) as web,
        UpstreamClient(SystemClock(), limits=limits) as client,
    ):
        for path in ("/1", "/2", "/3", "/1", "/4", "/1", "/2"):
            await client.get("Weather", web.url + path)
        assert web.paths() == ["/1", "/2", "/3", "/4", "/2"]


async def test_an_answer_too_large_to_keep_is_still_an_answer() -> None:
    body = b"x" * (5 * 1024 * 1024)
    async with (
        open_web(lambda asked: Reply(200, body, {"cache-control": "max-age=60"})) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        for _ in range(2):
            assert await client.get("Weather", web.url) == body
        assert len(web.requests) == 2


async def test_no_cookie_is_kept_or_sent() -> None:
    async with (
        open_web(lambda asked: Reply(200, b"", {"set-cookie": "id=1; Path=/"})) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        for path in ("/1", "/2"):
            await client.get("Weather", web.url + path)
        assert len(web.requests) == 2
        assert all("cookie" not in asked.headers for asked in web.requests)


# Trying again


def in_turn(*replies: Reply) -> Answer:
    left = list(replies)
    return lambda asked: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    "first",
    [
        Reply(500),
        Reply(502),
        Reply(503, b"", {"retry-after": "0"}),
        Reply(408),
        Reply(429, b"", {"retry-after": "0"}),
    ],
)
async def test_what_may_pass_by_itself_is_tried_again(first: Reply) -> None:
    async with (
        open_web(in_turn(first, first, Reply(200, b"fine"))) as web,
        UpstreamClient(SystemClock(), limits=AT_ONCE) as client,
    ):
        assert await client.get("Weather", web.url) == b"fine"
        assert (len(web.requests), of_loopback(client).retries) == (3, 2)


async def test_trying_has_an_end() -> None:
    async with (
        open_web(lambda asked: Reply(500)) as web,
        UpstreamClient(SystemClock(), limits=AT_ONCE) as client,
    ):
        failure = await failure_of(client, web.url)
        assert isinstance(failure, Unreachable)
        assert failure.message == "Weather has a problem (500)"
        assert len(web.requests) == 3
        assert dict(of_loopback(client).failures) == {"unreachable": 3}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(400), BadAnswer),
        (Reply(401), Unauthorized),
        (Reply(403), Unauthorized),
        (Reply(404), ConfigProblem),
        (Reply(429), RateLimited),
        (Reply(200, b"x" * 100, {"content-length": "100"}, cut=10), BadAnswer),
        (b"not HTTP\r\n\r\n", BadAnswer),
    ],
)
async def test_what_will_not_pass_is_not_tried_again(reply: Reply | bytes, kind: type[SourceFailure]) -> None:
    async with open_web(lambda asked: reply) as web, UpstreamClient(SystemClock(), limits=AT_ONCE) as client:
        failure = await failure_of(client, web.url, params={"app_key": "hush"})
        assert type(failure) is kind
        assert "hush" not in failure.message
        assert len(web.requests) == 1


async def test_a_short_wait_that_is_asked_for_is_waited_for(clock: TestClock) -> None:
    bodies: list[bytes] = []
    async with (
        open_web(in_turn(Reply(429, b"", {"retry-after": "2"}), Reply(200, b"fine"))) as web,
        UpstreamClient(clock) as client,
        anyio.create_task_group() as group,
    ):

        async def get() -> None:
            bodies.append(await client.get("Weather", web.url))

        begun_s = clock.monotonic()
        group.start_soon(get)
        await clock.advance_until(lambda: bool(bodies), quiet_s=0.01)
        assert bodies == [b"fine"]
        assert clock.monotonic() - begun_s == pytest.approx(2.0, abs=0.3)


async def test_a_host_that_asks_for_a_long_wait_is_left_alone_until_then(clock: TestClock) -> None:
    async with (
        open_web(in_turn(Reply(429, b"", {"retry-after": "120"}), Reply(200, b"fine"))) as web,
        UpstreamClient(clock) as client,
    ):
        first = await failure_of(client, f"{web.url}/a")
        await clock.advance(50)
        second = await failure_of(client, f"{web.url}/b")
        assert (first.code, first.retry_after_s) == ("rateLimited", 120)
        assert (second.code, second.retry_after_s) == ("rateLimited", pytest.approx(70))
        assert len(web.requests) == 1
        await clock.advance(71)
        assert await client.get("Weather", f"{web.url}/b") == b"fine"


async def test_all_tries_together_have_a_deadline(clock: TestClock) -> None:
    failures: list[SourceFailure] = []

    async def silence(asked: Asked) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with open_web(silence) as web, UpstreamClient(clock) as client, anyio.create_task_group() as group:

        async def get() -> None:
            failures.append(await failure_of(client, web.url))

        begun_s = clock.monotonic()
        group.start_soon(get)
        await clock.advance_until(lambda: bool(failures), quiet_s=0.01)
        assert clock.monotonic() - begun_s == pytest.approx(9.0)
        assert failures[0].message == "Weather took too long to answer"
        assert len(web.requests) == 2


async def test_a_host_where_nobody_listens_is_unreachable() -> None:
    async with UpstreamClient(SystemClock(), limits=AT_ONCE) as client:
        failure = await failure_of(client, f"http://127.0.0.1:{free_port()}/")
        assert failure.message == "Weather could not be reached"


# Bounds


async def test_a_body_has_a_size() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with open_web(lambda asked: Reply(200, endless())) as web, UpstreamClient(SystemClock()) as client:
        failure = await failure_of(client, web.url, max_bytes=1024 * 1024)
        assert failure.message == "Weather sent more than 1024 KiB"


async def test_no_more_than_so_many_requests_are_under_way_to_one_host() -> None:
    let = anyio.Event()

    async def answer(asked: Asked) -> Reply:
        await let.wait()
        return Reply(200)

    limits = ClientLimits(per_host=3)
    async with open_web(answer) as web, UpstreamClient(SystemClock(), limits=limits) as client:
        async with anyio.create_task_group() as group:
            for n in range(12):
                group.start_soon(client.get, "Weather", f"{web.url}/{n}")
            await web.wait_for(3)
            await anyio.wait_all_tasks_blocked()
            assert of_loopback(client).under_way == 3
            let.set()
        assert (web.most_under_way, len(web.requests)) == (3, 12)
        assert of_loopback(client).under_way == 0


# JSON


async def test_json_is_read_as_the_shape_that_was_asked_for() -> None:
    async with (
        open_web(lambda asked: json_reply('{"a": 1}')) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        assert await client.get_json("Weather", web.url, NUMBERS) == {"a": 1}


@pytest.mark.parametrize(
    "body", ["<html>Sign in to the Wi-Fi</html>", '{"a": "x"}', '{"a": 1', "", "[]", "\xff"]
)
async def test_anything_but_the_json_that_was_asked_for_is_a_bad_answer(body: str) -> None:
    async with open_web(lambda asked: json_reply(body)) as web, UpstreamClient(SystemClock()) as client:
        with pytest.raises(BadAnswer) as caught:
            await client.get_json("Weather", web.url, NUMBERS)
        assert caught.value.message == "Weather sent an answer that makes no sense"


async def test_a_redirect_without_end_is_a_bad_answer() -> None:
    async with (
        open_web(lambda asked: Reply(302, b"", {"location": "/"})) as web,
        UpstreamClient(SystemClock()) as client,
    ):
        assert (await failure_of(client, web.url)).message == "Weather redirects to nowhere"
