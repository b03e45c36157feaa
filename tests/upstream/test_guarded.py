"""What users name is fetched without being made to read our own network, and without end."""

from __future__ import annotations

import base64
import gzip
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.clock import Clock, SystemClock
from server.engine.source import (
    BadAnswer,
    ConfigProblem,
    RateLimited,
    SourceFailure,
    Unauthorized,
    Unreachable,
)
from server.upstream.addresses import Address, is_public
from server.upstream.failures import retry_after_s
from server.upstream.guarded import Fetched, GuardedFetcher, GuardedLimits
from server.upstream.network import MayReach, anywhere
from server.upstream.resolver import SystemResolver
from server.upstream.urls import origin, web_address
from tests.support.certificates import self_signed
from tests.support.clock import START, TestClock
from tests.support.ports import free_port
from tests.support.web import Answer, Asked, Reply, open_web

MIB = 1024 * 1024
LOOPBACK = "127.0.0.1"
OUTSIDE = "127.0.0.2"
"""Stands for the public internet where a test lets it."""


class Names:
    """A resolver that knows what a test tells it, and notes what it is asked."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        if host not in self.names:
            raise OSError("no such name")
        return [ip_address(text) for text in self.names[host]]


def guard(
    names: Names | None = None,
    *,
    may_reach: MayReach = is_public,
    limits: GuardedLimits | None = None,
    clock: Clock | None = None,
) -> GuardedFetcher:
    resolver = names if names is not None else SystemResolver()
    return GuardedFetcher(clock or SystemClock(), resolver, may_reach=may_reach, limits=limits)


def text(body: str = "hello", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked: Reply(200, body.encode(), named)


async def failure_of(fetcher: GuardedFetcher, url: str) -> SourceFailure:
    with pytest.raises(SourceFailure) as caught:
        await fetcher.fetch(url)
    return caught.value


# Where it may go


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[::]",
        "１２７.0.0.1",
        "127。0。0。1",
        "LOCALHOST",
        "localhost.",
    ],
)
async def test_no_notation_of_a_loopback_address_reaches_a_server_there(host: str) -> None:
    async with open_web(text()) as web, guard() as fetcher:
        failure = await failure_of(fetcher, web.url_by(host))
        assert isinstance(failure, ConfigProblem | Unreachable)
        assert web.connections == 0


async def test_a_name_that_resolves_to_a_private_address_is_refused() -> None:
    names = Names(inner_example=[LOOPBACK], metadata_example=["169.254.169.254"], lan_example=["10.0.0.1"])
    async with open_web(text()) as web, guard(names) as fetcher:
        for host in names.names:
            failure = await failure_of(fetcher, web.url_by(host))
            assert failure.code == "config"
            assert failure.message == "that address is not on the public internet"
        assert web.connections == 0


async def test_one_private_address_among_public_ones_forbids_the_name() -> None:
    names = Names(mixed_example=["93.184.215.14", LOOPBACK], other_example=[LOOPBACK, "93.184.215.14"])
    async with open_web(text()) as web, guard(names) as fetcher:
        for host in names.names:
            assert isinstance(await failure_of(fetcher, web.url_by(host)), ConfigProblem)
        assert web.connections == 0


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """A name that answers differently the second time gains nothing: there is no second time."""
    names = Names(calendar_example=[OUTSIDE])
    checked: list[str] = []

    def may_reach(address: Address) -> bool:
        checked.append(str(address))
        names.names["calendar.example"] = [LOOPBACK]
        return str(address) == OUTSIDE

    async with (
        open_web(text(), host=OUTSIDE) as web,
        open_web(text("secret")) as inner,
        guard(names, may_reach=may_reach) as fetcher,
    ):
        answer = await fetcher.fetch(web.url_by("calendar.example"))
        assert answer.body == b"hello"
        assert (names.asked, checked) == (["calendar.example"], [OUTSIDE])
        assert web.requests[0].headers["host"] == f"calendar.example:{web.port}"
        assert inner.connections == 0


async def test_the_next_address_of_a_name_is_tried_where_the_first_takes_no_connection() -> None:
    names = Names(calendar_example=["127.0.0.3", LOOPBACK])
    async with open_web(text()) as web, guard(names, may_reach=anywhere) as fetcher:
        answer = await fetcher.fetch(web.url_by("calendar.example"))
        assert answer.status == 200


async def test_a_name_with_many_dead_addresses_does_not_buy_as_many_attempts() -> None:
    names = Names(calendar_example=[*[f"127.0.1.{n}" for n in range(1, 50)], LOOPBACK])
    async with open_web(text()) as web, guard(names, may_reach=anywhere) as fetcher:
        assert isinstance(await failure_of(fetcher, web.url_by("calendar.example")), Unreachable)
        assert web.connections == 0


async def test_tls_asks_for_a_certificate_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    wanted: list[str | None] = []

    def note(socket: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        wanted.append(name)

    context = self_signed(tmp_path, "calendar.example")
    context.sni_callback = note
    names = Names(calendar_example=[LOOPBACK])
    async with open_web(text(), tls=context) as web, guard(names, may_reach=anywhere) as fetcher:
        failure = await failure_of(fetcher, web.url_by("calendar.example"))
        assert failure.message == "calendar.example could not be reached"
        assert wanted == ["calendar.example"]
        assert web.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_INFO",
        "unix:///run/docker.sock",
        "http://",
        "https:///path",
        "not an address",
        "http://[::1",
        "http://exa mple.com/",
        "http://a..b/",
        "http://xn--a/",
        "http://a:b@example.com/",
        "javascript:alert(1)",
        "http://example.com:99999/",
        "",
    ],
)
async def test_what_is_no_web_address_is_a_mistake_of_the_config(url: str) -> None:
    async with guard(Names()) as fetcher:
        assert isinstance(await failure_of(fetcher, url), ConfigProblem)


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda text: "http://" + text))
def test_any_text_is_an_address_or_a_sentence_about_it(text: str) -> None:
    with suppress(ValueError):
        url = web_address(text)
        assert url.scheme in ("http", "https")
        assert url.host
        assert origin(url)[2] > 0


# Redirects


def redirect(location: str, status: int = 302) -> Reply:
    return Reply(status, b"moved", {"location": location})


def the_outside(address: Address) -> bool:
    return is_public(address) or str(address) == OUTSIDE


async def test_a_redirect_into_our_own_network_is_refused() -> None:
    async with open_web(text("secret")) as inner:
        targets = [
            inner.url,
            inner.url_by("localhost"),
            inner.url_by("[::ffff:127.0.0.1]"),
            inner.url_by("2130706433"),
            inner.url_by("intranet.example"),
            f"//127.0.0.1:{inner.port}/",
        ]
        names = Names(feeds_example=[OUTSIDE], intranet_example=["10.0.0.7"], localhost=[LOOPBACK])
        names.names["2130706433"] = [LOOPBACK]
        hops = iter(targets)
        async with (
            open_web(lambda asked: redirect(next(hops)), host=OUTSIDE) as outer,
            guard(names, may_reach=the_outside) as fetcher,
        ):
            for target in targets:
                failure = await failure_of(fetcher, outer.url_by("feeds.example"))
                assert isinstance(failure, ConfigProblem), target
            assert len(outer.requests) == len(targets)
            assert inner.connections == 0


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.com", "http://[", "http://", ""])
async def test_a_redirect_to_nowhere_is_a_failure_that_can_be_shown(location: str) -> None:
    limits = GuardedLimits(redirects=2)
    async with (
        open_web(lambda asked: redirect(location)) as web,
        guard(may_reach=anywhere, limits=limits) as fetcher,
    ):
        failure = await failure_of(fetcher, web.url)
        assert failure.code == "badAnswer"


async def test_redirects_are_followed_and_have_an_end() -> None:
    def answer(asked: Asked) -> Reply:
        left = int(asked.path[1:])
        return redirect(f"/{left - 1}", 307) if left else Reply(200, b"there")

    async with open_web(answer) as web, guard(may_reach=anywhere) as fetcher:
        answered = await fetcher.fetch(f"{web.url}/5")
        assert (answered.body, answered.url) == (b"there", f"{web.url}/0")
        failure = await failure_of(fetcher, f"{web.url}/6")
        assert failure.message == "127.0.0.1 redirects without end"


async def test_credentials_stay_with_the_origin_they_were_meant_for() -> None:
    async with (
        open_web(text(), host=OUTSIDE) as elsewhere,
        open_web(
            lambda asked: (
                redirect(f"{elsewhere.url_by(OUTSIDE)}/" if asked.path == "/away" else "/home")
                if asked.path != "/home"
                else Reply(200, b"home")
            )
        ) as home,
        guard(may_reach=anywhere) as fetcher,
    ):
        await fetcher.fetch(f"{home.url}/start", auth=("anna", "secret"))
        expected = "Basic " + base64.b64encode(b"anna:secret").decode()
        assert [asked.headers.get("authorization") for asked in home.requests] == [expected, expected]
        await fetcher.fetch(f"{home.url}/away", auth=("anna", "secret"))
        await fetcher.fetch(f"{home.url}/away", headers={"Authorization": "Bearer x", "Cookie": "a=b"})
        for asked in elsewhere.requests:
            assert not {"authorization", "cookie"} & asked.headers.keys()
        assert len(elsewhere.requests) == 2


async def test_a_method_and_its_body_survive_the_redirects_that_keep_them() -> None:
    async with (
        open_web(
            lambda asked: Reply(200, b"done") if asked.path == "/b" else redirect("/b", int(asked.query))
        ) as web,
        guard(may_reach=anywhere) as fetcher,
    ):
        for status, method, expected in [
            (301, "PROPFIND", "PROPFIND"),
            (302, "REPORT", "REPORT"),
            (307, "POST", "POST"),
            (308, "PROPFIND", "PROPFIND"),
            (301, "POST", "GET"),
            (303, "PROPFIND", "GET"),
        ]:
            await fetcher.fetch(f"{web.url}/a?{status}", method=method, content=b"<x/>")
            last = web.requests[-1]
            assert (last.method, last.body) == (expected, b"<x/>" if expected == method else b"")


# How much, and how long


async def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not() -> None:
    limits = GuardedLimits(max_bytes=1000)
    async with (
        open_web(lambda asked: Reply(200, b"x" * int(asked.path[1:]))) as web,
        guard(may_reach=anywhere, limits=limits) as fetcher,
    ):
        assert len((await fetcher.fetch(f"{web.url}/1000")).body) == 1000
        failure = await failure_of(fetcher, f"{web.url}/1001")
        assert isinstance(failure, BadAnswer)
        assert failure.message == "127.0.0.1 sent more than 0.000953674 MiB"


async def test_an_endless_body_ends_at_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 64 * 1024
            yield b"x" * (64 * 1024)

    async with open_web(lambda asked: Reply(200, endless())) as web, guard(may_reach=anywhere) as fetcher:
        failure = await failure_of(fetcher, web.url)
        assert failure.message == "127.0.0.1 sent more than 8 MiB"
        assert sent < 32 * MIB


async def test_a_compression_bomb_ends_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * (40 * MIB))
    async with (
        open_web(lambda asked: Reply(200, bomb, {"content-encoding": "gzip"})) as web,
        guard(may_reach=anywhere) as fetcher,
    ):
        assert (await failure_of(fetcher, web.url)).message == "127.0.0.1 sent more than 8 MiB"


async def test_an_endless_head_ends_too() -> None:
    async def flood() -> Reply | bytes:
        return b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * (4 * MIB)

    async with open_web(lambda asked: flood()) as web, guard(may_reach=anywhere) as fetcher:
        assert isinstance(await failure_of(fetcher, web.url), BadAnswer)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, b"x" * 100, {"content-length": "100"}, cut=50), BadAnswer),
        (Reply(200, gzip.compress(b"hello" * 100)[:-5], {"content-encoding": "gzip"}), BadAnswer),
        (Reply(200, b"hello", {"content-encoding": "gzip"}), BadAnswer),
        (Reply(200, b"hello", {"content-encoding": "br"}), BadAnswer),
        (b"220 mail.example ESMTP\r\n", BadAnswer),
        (b"", BadAnswer),
        (Reply(300, b"choose"), BadAnswer),
        (Reply(400, b"no"), BadAnswer),
        (Reply(401, b"who?"), Unauthorized),
        (Reply(403, b"no"), Unauthorized),
        (Reply(404, b"no"), ConfigProblem),
        (Reply(410, b"gone"), ConfigProblem),
        (Reply(429, b"slow down"), RateLimited),
        (Reply(500, b"oops"), Unreachable),
        (Reply(503, b"later"), Unreachable),
    ],
)
async def test_every_bad_answer_is_named_without_its_text(
    reply: Reply | bytes, kind: type[SourceFailure]
) -> None:
    async with open_web(lambda asked: reply) as web, guard(may_reach=anywhere) as fetcher:
        failure = await failure_of(fetcher, f"{web.url}/private-path?token=hush")
        assert type(failure) is kind
        for hidden in ("hush", "private-path", "oops", "who?", "slow down", "mail.example", str(web.port)):
            assert hidden not in failure.message


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    async with guard(may_reach=anywhere) as fetcher:
        failure = await failure_of(fetcher, f"http://127.0.0.1:{free_port()}/")
        assert failure.message == "127.0.0.1 could not be reached"


async def test_an_answer_of_not_modified_is_an_answer() -> None:
    async with open_web(lambda asked: Reply(304)) as web, guard(may_reach=anywhere) as fetcher:
        answer = await fetcher.fetch(web.url, headers={"If-None-Match": '"a"'})
        assert (answer.status, answer.body) == (304, b"")


async def test_the_wait_that_a_server_asks_for_is_passed_on() -> None:
    async with (
        open_web(lambda asked: Reply(429, b"", {"retry-after": "120"})) as web,
        guard(may_reach=anywhere) as fetcher,
    ):
        assert (await failure_of(fetcher, web.url)).retry_after_s == 120


async def slow_drip(clock_step_s: float) -> AsyncIterator[bytes]:
    while True:
        yield b"."
        await anyio.sleep(clock_step_s)


async def finished(fetcher: GuardedFetcher, url: str, results: list[Fetched | SourceFailure]) -> None:
    try:
        results.append(await fetcher.fetch(url))
    except SourceFailure as failure:
        results.append(failure)


async def test_a_slow_drip_ends_when_its_time_is_up(clock: TestClock) -> None:
    results: list[Fetched | SourceFailure] = []
    async with (
        open_web(lambda asked: Reply(200, slow_drip(1.0))) as web,
        guard(may_reach=anywhere, clock=clock) as fetcher,
        anyio.create_task_group() as group,
    ):
        begun_s = clock.monotonic()
        group.start_soon(finished, fetcher, web.url, results)
        await clock.advance_until(lambda: bool(results), quiet_s=0.01)
        assert clock.monotonic() - begun_s == pytest.approx(20.0)
        assert isinstance(results[0], Unreachable)
        assert results[0].message == "127.0.0.1 took too long to answer"


async def test_a_server_that_says_nothing_is_given_up(clock: TestClock) -> None:
    results: list[Fetched | SourceFailure] = []

    async def silence() -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with (
        open_web(lambda asked: silence()) as web,
        guard(may_reach=anywhere, clock=clock) as fetcher,
        anyio.create_task_group() as group,
    ):
        group.start_soon(finished, fetcher, web.url, results)
        await clock.advance_until(lambda: bool(results), quiet_s=0.01)
        assert isinstance(results[0], Unreachable)


async def test_a_name_that_takes_forever_to_resolve_is_given_up(clock: TestClock) -> None:
    results: list[Fetched | SourceFailure] = []

    async def resolver(host: str, port: int) -> Sequence[Address]:
        await anyio.sleep_forever()
        raise AssertionError

    async with GuardedFetcher(clock, resolver) as fetcher, anyio.create_task_group() as group:
        begun_s = clock.monotonic()
        group.start_soon(finished, fetcher, "http://nowhere.example/", results)
        await clock.advance_until(lambda: bool(results))
        assert clock.monotonic() - begun_s == pytest.approx(5.0)
        assert isinstance(results[0], Unreachable)


# Fairness


class Held:
    """A server that answers only when it is let."""

    def __init__(self) -> None:
        self.let = anyio.Event()

    async def answer(self, asked: Asked) -> Reply:
        await self.let.wait()
        return Reply(200, b"at last")


async def test_one_slow_host_holds_up_nobody_else() -> None:
    held, results = Held(), list[Fetched | SourceFailure]()
    names = Names(slow_example=[LOOPBACK], quick_example=[LOOPBACK])
    limits = GuardedLimits(per_host=2, at_once=3)
    async with (
        open_web(held.answer) as slow,
        open_web(text()) as quick,
        guard(names, may_reach=anywhere, limits=limits) as fetcher,
        anyio.create_task_group() as group,
    ):
        for _ in range(10):
            group.start_soon(finished, fetcher, slow.url_by("slow.example"), results)
        await slow.wait_for(2)
        assert (await fetcher.fetch(quick.url_by("quick.example"))).body == b"hello"
        assert (len(results), slow.most_under_way) == (0, 2)
        held.let.set()
    assert len(results) == 10
    assert slow.most_under_way == 2
    assert fetcher.statistics().under_way == 0


async def test_a_cancelled_fetch_gives_its_place_back() -> None:
    held = Held()
    limits = GuardedLimits(per_host=1, at_once=1)
    async with open_web(held.answer) as web, guard(may_reach=anywhere, limits=limits) as fetcher:
        for _ in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(fetcher.fetch, web.url)
                await web.wait_for(1)
                group.cancel_scope.cancel()
            web.requests.clear()
        held.let.set()
        assert (await fetcher.fetch(web.url)).body == b"at last"


async def test_calls_and_failures_are_counted() -> None:
    async with (
        open_web(lambda asked: Reply(200 if asked.path == "/a" else 500, b"x")) as web,
        guard(may_reach=anywhere) as fetcher,
    ):
        await fetcher.fetch(f"{web.url}/a")
        await failure_of(fetcher, f"{web.url}/b")
        await failure_of(fetcher, "ftp://x")
        statistics = fetcher.statistics()
        assert (statistics.calls, dict(statistics.failures)) == (2, {"unreachable": 1})


# Retry-After


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("9" * 400, 86_400.0),
        ("²", None),
        (format_datetime(START + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(START - timedelta(seconds=90), usegmt=True), 0.0),
        (format_datetime(START + timedelta(days=900), usegmt=True), 86_400.0),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
async def test_retry_after_is_read_in_both_of_its_forms(
    clock: TestClock, header: str | None, expected: float | None
) -> None:
    assert retry_after_s(header, clock) == expected
