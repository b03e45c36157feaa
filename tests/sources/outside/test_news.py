"""freya.news."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from protocol.feed import Signals
from server.sources.news import NewsConfig
from tests.sources.outside.conftest import DatedClock, Street, Town, open_town
from tests.support.web import Asked, Reply, open_web


def article(n: int, guid: str = "", *, hour: int = 7) -> str:
    guid = guid or f"https://news.example/{n}"
    return (
        f"<item><title>Article {n}</title><guid>{guid}</guid><link>https://news.example/{n}</link>"
        f"<description>&lt;p&gt;Text {n}&lt;/p&gt;</description>"
        f"<pubDate>Mon, 02 Mar 2026 {hour:02}:{n:02}:00 GMT</pubDate></item>"
    )


def rss(*items: str, title: str = "The Paper") -> str:
    return f'<rss version="2.0"><channel><title>{title}</title>{"".join(items)}</channel></rss>'


def feed(*items: str, **headers: str) -> Reply:
    return Reply(200, rss(*items).encode(), {"content-type": "application/rss+xml", **headers})


async def reading(town: Town, *urls: str, **config: object) -> Street:
    street = town.street()
    await street.add("freya.news", {"feeds": list(urls), **config})  # pyright: ignore[reportArgumentType] -- JSON by its keywords
    return street


def titles(street: Street) -> list[object]:
    return [item.data["title"] for item in street.of_type("news-article")]


def code(street: Street) -> str | None:
    error = street.error("freya.news")
    return None if error is None else error.code


async def test_the_newest_articles_of_a_feed_are_items(real_town: Town) -> None:
    async with open_web(lambda asked: feed(article(1), article(2), article(3))) as web:
        street = await reading(real_town, f"{web.url}/a.xml", itemsPerFeed=2)
        assert titles(street) == ["Article 3", "Article 2"]
        newest = street.items[0]
        assert newest.timestamp == datetime(2026, 3, 2, 7, 3, tzinfo=UTC)
        assert newest.signals == Signals(0.2, "ambient")
        assert newest.data == {
            "title": "Article 3",
            "summary": "Text 3",
            "link": "https://news.example/3",
            "author": None,
            "feedTitle": "The Paper",
            "publishedAt": "2026-03-02T07:03:00Z",
        }


async def test_ids_come_from_the_guid_and_stay(real_town: Town) -> None:
    items = [article(1), article(2)]
    async with open_web(lambda asked: feed(*items)) as web:
        street = await reading(real_town, f"{web.url}/a.xml")
        assert street.error("freya.news") is None
        before = {item.data["title"]: item for item in street.items}
        items[0] = items[0].replace("Article 1", "Article 1, corrected")
        items.append(article(3))
        again = await reading(real_town, f"{web.url}/b.xml")
        after = {item.data["title"]: item for item in again.items}
        assert after["Article 2"] == before["Article 2"]
        assert after["Article 1, corrected"].id == before["Article 1"].id


async def test_an_article_in_two_feeds_is_shown_once_and_a_bare_number_is_no_name_of_it(
    real_town: Town,
) -> None:
    def answer(asked: Asked) -> Reply:
        n = 5 if asked.path == "/a" else 6
        own = article(n, "1").replace("<guid>", '<guid isPermaLink="false">')
        return feed(article(1), own.replace(f"<link>https://news.example/{n}</link>", ""))

    async with open_web(answer) as web:
        street = await reading(real_town, f"{web.url}/a", f"{web.url}/b")
        assert titles(street) == ["Article 6", "Article 5", "Article 1"]


async def test_a_feed_is_fetched_and_read_once_for_all_who_follow_it(real_town: Town) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.headers.get("if-none-match") == '"1"':
            return Reply(304, b"", {"etag": '"1"'})
        return feed(article(1), etag='"1"')

    async with open_web(answer) as web:
        runs = real_town.worker_runs
        streets = [await reading(real_town, f"{web.url}/a") for _ in range(5)]
        clock = real_town.clock
        assert isinstance(clock, DatedClock)
        clock.hurry(70)
        for street in streets:
            await street.refresh()
            assert titles(street) == ["Article 1"]
        assert [asked.headers.get("if-none-match") for asked in web.requests] == [None, '"1"']
        assert real_town.worker_runs == runs + 1


async def test_one_feed_that_fails_costs_itself_and_all_that_fail_are_an_error(real_town: Town) -> None:
    broken = set[str]()

    def answer(asked: Asked) -> Reply:
        return Reply(500) if asked.path in broken else feed(article(1 if asked.path == "/a" else 2))

    async with open_web(answer) as web:
        street = await reading(real_town, f"{web.url}/a", f"{web.url}/b")
        clock = street.clock
        assert isinstance(clock, DatedClock)
        for failing, expected in (({"/a"}, None), ({"/a", "/b"}, "unreachable")):
            broken |= failing
            clock.hurry(70)
            await street.refresh()
            assert (titles(street), code(street)) == (["Article 2", "Article 1"], expected)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, b"<html>Sign in to the Wi-Fi</html>"), "badAnswer"),
        (Reply(200, rss(article(1)).encode(), {"content-length": "9999"}, cut=50), "badAnswer"),
        (Reply(404), "config"),
        (Reply(403), "unauthorized"),
        (Reply(500), "unreachable"),
        (Reply(429, b"", {"retry-after": "60"}), "rateLimited"),
    ],
)
async def test_every_bad_answer_has_its_name(real_town: Town, reply: Reply, expected: str) -> None:
    async with open_web(lambda asked: reply) as web:
        assert code(await reading(real_town, f"{web.url}/?token=hush")) == expected


async def test_a_feed_of_fifty_megabytes_is_refused_at_its_limit(real_town: Town) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'<rss version="2.0"><channel>'
        while sent < 50 * 1024 * 1024:
            sent += 64 * 1024
            yield b"<item><title>x</title></item>" * 2260

    async with open_web(lambda asked: Reply(200, endless())) as web:
        runs = real_town.worker_runs
        street = await reading(real_town, web.url)
        error = street.error("freya.news")
        assert error is not None
        assert error.message == "127.0.0.1 sent more than 8 MiB"
        assert real_town.worker_runs == runs
        assert sent < 30 * 1024 * 1024


async def test_a_long_feed_is_read_elsewhere(real_town: Town) -> None:
    long = feed(*[article(n % 60, f"https://news.example/a{n}") for n in range(800)])
    async with open_web(lambda asked: long) as web:
        runs = real_town.worker_runs
        street = await reading(real_town, web.url, itemsPerFeed=50)
        assert (len(street.items), real_town.worker_runs) == (50, runs + 1)


async def test_an_address_in_our_own_network_is_not_read() -> None:
    async with (
        open_web(lambda asked: feed(article(1))) as web,
        open_town(DatedClock(), allow_private=False) as town,
    ):
        assert code(await reading(town, web.url)) == "config"
        assert web.connections == 0


@pytest.mark.parametrize(
    "feeds",
    [
        [],
        ["ftp://example.com/"],
        ["not an address"],
        ["https://a:b@example.com/"],
        [f"https://example.com/{n}" for n in range(21)],
        "https://example.com/",
    ],
)
def test_feeds_that_cannot_be_read_are_refused(feeds: object) -> None:
    with pytest.raises(ValidationError):
        NewsConfig.model_validate({"feeds": feeds})


def test_a_feed_named_twice_is_read_once() -> None:
    config = NewsConfig.model_validate({"feeds": ["https://a.example/ ", "https://a.example/"]})
    assert config.feeds == ("https://a.example/",)
