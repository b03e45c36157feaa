"""RSS and Atom to articles, in plain text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from io import BytesIO
from time import struct_time
from typing import Any, Final, cast

import feedparser

from server.reading.values import Article, Feed, Unreadable

__all__ = ["read_feed"]

_TITLE_MAX: Final = 300
_SUMMARY_MAX: Final = 600
_NAME_MAX: Final = 200
_URL_MAX: Final = 2000
_TAG: Final = re.compile(r"<[^>]*>")
_UNSEEN: Final = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f]+")


def read_feed(body: bytes, content_type: str, url: str, most: int) -> Feed:
    """The newest `most` articles. Raises Unreadable for what has neither the form nor an entry of a feed.

    `content_type` may name an encoding; `url` is what relative links are relative to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's remarks about feeds of others
        # As a stream: given bytes, the library first tries whether they name a file.
        headers = {"content-type": content_type, "content-location": url}
        library: Any = feedparser  # it has no types
        parsed: Any = library.parse(BytesIO(body), response_headers=headers, sanitize_html=False)
    if not parsed.get("version") and not parsed.get("entries"):
        raise Unreadable
    every = [_article(entry) for entry in cast("list[Any]", parsed.entries)]
    articles = [article for article in every if article.title or article.summary]
    oldest = datetime.min.replace(tzinfo=UTC)
    if any(article.published for article in articles):
        articles.sort(key=lambda article: article.published or oldest, reverse=True)
    head: Any = parsed.feed
    return Feed(_text(head.get("title"), _NAME_MAX), _moment(head), tuple(articles[:most]))


def _article(entry: Any) -> Article:
    guid = _text(entry.get("id"), _URL_MAX)
    author: Any = entry.get("author_detail", {})
    return Article(
        guid=guid,
        link=next(_links(entry, guid), None),
        title=_text(entry.get("title"), _TITLE_MAX),
        summary=_text(entry.get("summary"), _SUMMARY_MAX),
        author=_text(author.get("name") or entry.get("author"), _NAME_MAX),
        published=_moment(entry),
    )


def _links(entry: Any, guid: str | None) -> Iterator[str]:
    """Only what a browser may open without doing anything else: no `javascript:`, no `data:`."""
    for link in (entry.get("link"), guid):
        text = str(link or "").strip()
        if len(text) <= _URL_MAX and text.lower().startswith(("http://", "https://")):
            yield text


def _moment(entry: Any) -> datetime | None:
    for name in ("published_parsed", "updated_parsed", "created_parsed"):
        value: object = entry.get(name)
        if isinstance(value, struct_time):
            try:
                return datetime(*value[:5], min(value.tm_sec, 59), tzinfo=UTC)
            except ValueError:  # a month 13, a year 0
                continue
    return None


def _text(value: object, most: int) -> str | None:
    """Plain text: no markup, no control characters, at most so many characters, cut at a word."""
    if not isinstance(value, str):
        return None
    # Twice: markup is often escaped inside markup. Bounded first: what nobody will see need not be cleaned.
    text = value[: most * 20]
    for _ in range(2):
        text = unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text)))
    text = _BLANK.sub(" ", text).strip()
    if len(text) > most:
        text = text[: most - 1].rsplit(" ", 1)[0].rstrip() + "…"
    return text or None
