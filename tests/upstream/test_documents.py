"""Documents that users name: fetched once for all, asked anew only whether they changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from server.engine.source import ConfigProblem
from server.upstream.documents import Document, Documents
from server.upstream.guarded import GuardedFetcher
from server.upstream.network import anywhere
from server.upstream.resolver import SystemResolver
from tests.support.clock import TestClock
from tests.support.web import Asked, Reply, Web, open_web


@asynccontextmanager
async def library(clock: TestClock) -> AsyncGenerator[Documents]:
    async with GuardedFetcher(clock, SystemResolver(), may_reach=anywhere) as fetcher:
        yield Documents(clock, fetcher)


async def read(documents: Documents, web: Web) -> Document:
    return await documents.get(f"{web.url}/feed.xml", accept="text/xml", max_bytes=1000)


class Feed:
    """A feed with a version, which answers conditional requests."""

    def __init__(self) -> None:
        self.version = 1
        self.cache_control = ""

    def answer(self, asked: Asked) -> Reply:
        headers = {"etag": f'"{self.version}"', "last-modified": "Mon, 02 Mar 2026 08:00:00 GMT"}
        if self.cache_control:
            headers["cache-control"] = self.cache_control
        if asked.headers.get("if-none-match") == headers["etag"]:
            return Reply(304, b"", headers)
        return Reply(200, b"<feed/>" * self.version, {**headers, "content-type": "text/xml"})


async def test_a_document_is_fetched_once_a_minute_for_everybody(clock: TestClock) -> None:
    feed = Feed()
    async with open_web(feed.answer) as web, library(clock) as documents:
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(read, documents, web)
        first = await read(documents, web)
        assert (first.body, first.content_type, len(web.requests)) == (b"<feed/>", "text/xml", 1)
        await clock.advance(61)
        await read(documents, web)
        assert len(web.requests) == 2


async def test_what_has_not_changed_is_not_sent_again_and_is_the_same_object(clock: TestClock) -> None:
    feed = Feed()
    async with open_web(feed.answer) as web, library(clock) as documents:
        first = await read(documents, web)
        await clock.advance(61)
        assert await read(documents, web) is first
        assert web.requests[1].headers["if-none-match"] == '"1"'
        assert web.requests[1].headers["if-modified-since"] == "Mon, 02 Mar 2026 08:00:00 GMT"
        feed.version = 2
        await clock.advance(61)
        second = await read(documents, web)
        assert second.body == b"<feed/><feed/>"
        assert second.digest != first.digest


async def test_a_publisher_may_ask_to_be_read_less_often_and_not_to_be_forgotten(clock: TestClock) -> None:
    feed = Feed()
    feed.cache_control = "public, max-age=600"
    async with open_web(feed.answer) as web, library(clock) as documents:
        await read(documents, web)
        await clock.advance(590)
        await read(documents, web)
        assert len(web.requests) == 1
        feed.cache_control = "max-age=31536000"
        await clock.advance(20)
        await read(documents, web)
        assert len(web.requests) == 2
        await clock.advance(3601)
        assert (await read(documents, web)).body == b"<feed/>"
        assert len(web.requests) == 3


async def test_a_publisher_who_says_never_keep_is_still_asked_once_a_minute(clock: TestClock) -> None:
    feed = Feed()
    feed.cache_control = "no-store, max-age=0"
    async with open_web(feed.answer) as web, library(clock) as documents:
        for _ in range(6):
            await read(documents, web)
            await clock.advance(20)
        assert len(web.requests) == 2


async def test_a_missing_document_is_not_asked_for_by_every_reader(clock: TestClock) -> None:
    async with open_web(lambda asked: Reply(404)) as web, library(clock) as documents:
        for _ in range(5):
            with pytest.raises(ConfigProblem):
                await read(documents, web)
        assert len(web.requests) == 1
        assert documents.statistics().failures == 1
