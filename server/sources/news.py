"""freya.news: the newest articles of RSS and Atom feeds, each read once for all who follow it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Annotated, Final

import anyio
import structlog
from pydantic import AfterValidator, BaseModel, Field

from protocol.feed import FeedItem, Signals
from protocol.ids import SourceId, UserId
from protocol.times import to_wire
from server.engine.context import Context
from server.engine.source import BadAnswer, FeedSource, SourceFailure
from server.reading.jobs import read_news
from server.reading.values import Article, Feed, Unreadable
from server.sources.item_types import NEWS_ARTICLE
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services
from server.upstream.documents import Document
from server.upstream.shared import Shared
from server.upstream.urls import MOST_CHARACTERS, web_address

__all__ = ["NewsConfig", "NewsProvider", "NewsSource"]

_ID: Final = SourceId("freya.news")

_FEEDS_MAX: Final = 20
_PER_FEED_MAX: Final = 50
_BYTES_MAX: Final = 8 * 1024 * 1024
_ACCEPT: Final = "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.5"
# An article is kept as objects and as an item; about this much of both.
_ARTICLE_BYTES: Final = 4_000
_NEWS: Final = Signals(0.2, "ambient")
# Of an article whose publisher dates nothing: any other time would change with every reading.
_UNDATED: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = structlog.get_logger()


def _feed_address(text: str) -> str:
    web_address(text)
    return text.strip()


def _once(urls: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(urls))


_Url = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(_feed_address)]


class NewsConfig(ConfigModel):
    """What is read, and how much of it."""

    feeds: Annotated[tuple[_Url, ...], Field(min_length=1, max_length=_FEEDS_MAX), AfterValidator(_once)] = (
        Field(
            title="Feeds",
            description="Addresses of RSS or Atom feeds.",
            examples=[["https://example.com/news.xml"]],
        )
    )
    items_per_feed: int = Field(
        default=10,
        ge=1,
        le=_PER_FEED_MAX,
        title="Articles of each",
        description="How many of its newest articles are shown.",
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """A feed as it was read, with an item for each article."""

    items: tuple[FeedItem, ...]

    @property
    def weight(self) -> int:
        return 1024 + _ARTICLE_BYTES * len(self.items)


_Readings = Shared[Hashable, _Reading]


class NewsSource(FeedSource):
    """One user's feeds. One that fails costs itself: its last articles stay."""

    id = _ID
    timeout_s = 45.0
    refresh_every_s = 300.0

    def __init__(self, config: NewsConfig, readings: _Readings, services: Services) -> None:
        self._config = config
        self._readings = readings
        self._services = services
        self._last: dict[str, _Reading] = {}

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        failures: list[SourceFailure] = []

        async def read(url: str) -> None:
            try:
                self._last[url] = await self._read(url)
            except SourceFailure as failure:
                failures.append(failure)

        async with anyio.create_task_group() as group:
            for url in self._config.feeds:
                group.start_soon(read, url)
        if len(failures) == len(self._config.feeds):
            raise failures[0]
        if failures:
            _log.info("news_feeds_unread", failed=len(failures), feeds=len(self._config.feeds))
        return _newest_first(self._taken())

    async def _read(self, url: str) -> _Reading:
        outside = self._services.outside
        document = await outside.documents.get(url, accept=_ACCEPT, max_bytes=_BYTES_MAX)

        async def load(_: object) -> _Reading:
            try:
                feed = await outside.workers.run(
                    "The feed", read_news, document.body, document.content_type, url, _PER_FEED_MAX
                )
            except Unreadable:
                raise BadAnswer("what is at that address is no RSS or Atom feed") from None
            return _Reading(tuple(_items(feed, document)))

        return await self._readings.get(self._services.clock, (url, document.digest), load)

    def _taken(self) -> Iterator[FeedItem]:
        for url in self._config.feeds:
            reading = self._last.get(url)
            if reading is not None:
                yield from reading.items[: self._config.items_per_feed]


def _newest_first(items: Iterator[FeedItem]) -> list[FeedItem]:
    """Each article once: a publisher's feeds overlap."""
    by_id: dict[str, FeedItem] = {}
    for item in items:
        by_id.setdefault(item.id, item)
    return sorted(by_id.values(), key=lambda item: item.timestamp, reverse=True)


def _items(feed: Feed, document: Document) -> Iterator[FeedItem]:
    seen = set[str]()
    for article in feed.articles:
        name = _name(article, document.url)
        if name in seen:
            continue
        seen.add(name)
        published = article.published
        yield FeedItem.make(
            id=f"{_ID}/{name}",
            source_id=_ID,
            type=NEWS_ARTICLE,
            timestamp=published or feed.updated or _moment(document.last_modified) or _UNDATED,
            data={
                "title": article.title,
                "summary": article.summary,
                "link": article.link,
                "author": article.author,
                "feedTitle": feed.title,
                "publishedAt": None if published is None else to_wire(published),
            },
            signals=_NEWS,
        )


def _name(article: Article, url: str) -> str:
    """The same for the same article, also in another feed of its publisher where its guid or link is an
    address; a guid that is not means something in its own feed alone."""
    for text in (article.guid, article.link):
        if text is not None and text.startswith(("http://", "https://")):
            return _hash(text)
    return _hash(f"{url}\0{article.guid or article.title or article.summary}")


def _hash(text: str) -> str:
    return blake2b(text.encode(errors="replace"), digest_size=9).hexdigest()


def _moment(http_date: str | None) -> datetime | None:
    if http_date is None:
        return None
    try:
        at = parsedate_to_datetime(http_date)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else None


class NewsProvider(FeedProvider[NewsConfig]):
    """Makes `freya.news`."""

    source_id = _ID
    name = "News"
    config_schema = NewsConfig
    builds_at_once = True

    def __init__(self) -> None:
        self._readings: _Readings = Shared(
            fresh_s=3600.0,
            failure_s=60.0,
            weigh=lambda reading: reading.weight,
            most_bytes=32 * 1024 * 1024,
        )

    async def source_for_user(
        self, user: UserId, config: NewsConfig, credentials: BaseModel | None, services: Services
    ) -> NewsSource:
        return NewsSource(config, self._readings, services)
