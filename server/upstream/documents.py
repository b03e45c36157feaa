"""What anybody may read at an address that users name: fetched once for all who name it, asked anew only
whether it has changed. No request here carries credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from server.engine.clock import Clock
from server.upstream.digests import digest_of
from server.upstream.guarded import Fetched, GuardedFetcher
from server.upstream.shared import Shared, SharedStatistics

__all__ = ["Document", "Documents"]

# A publisher who says "no-cache" gets a call a minute, however many follow; one who says "a year" is asked
# every hour all the same.
_FRESH_MIN_S: Final = 60.0
_FRESH_MAX_S: Final = 3600.0
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Document:
    """A body, and what it takes to ask whether it has changed."""

    url: str
    """As the user named it."""
    body: bytes
    digest: bytes
    """Of the body: what was made of a document with the same digest can be used again."""
    content_type: str
    etag: str | None
    last_modified: str | None
    fresh_s: float

    @property
    def weight(self) -> int:
        """Bytes held, about."""
        return len(self.body) + 1024


class Documents:
    """The documents of the process, within `most_bytes`."""

    def __init__(
        self, clock: Clock, fetcher: GuardedFetcher, *, most: int = 5_000, most_bytes: int = 64 * 1024 * 1024
    ) -> None:
        self._clock = clock
        self._fetcher = fetcher
        self._shared: Shared[tuple[str, str, int], Document] = Shared(
            fresh_s=lambda document: document.fresh_s,
            failure_s=30.0,
            most=most,
            weigh=lambda document: document.weight,
            most_bytes=most_bytes,
        )

    async def get(self, url: str, *, accept: str, max_bytes: int) -> Document:
        """The document at an address, at most a minute old unless its publisher allows more. The same object
        as before where it has not changed. Raises SourceFailure."""

        async def load(before: Document | None) -> Document:
            headers = {"Accept": accept, **(_conditions(before) if before is not None else {})}
            answer = await self._fetcher.fetch(url, headers=headers, max_bytes=max_bytes)
            return await _taken(url, answer, before)

        return await self._shared.get(self._clock, (url, accept, max_bytes), load)

    def statistics(self) -> SharedStatistics:
        """See SharedStatistics."""
        return self._shared.statistics()


def _conditions(before: Document) -> dict[str, str]:
    conditions: dict[str, str] = {}
    if before.etag is not None:
        conditions["If-None-Match"] = before.etag
    if before.last_modified is not None:
        conditions["If-Modified-Since"] = before.last_modified
    return conditions


async def _taken(url: str, answer: Fetched, before: Document | None) -> Document:
    fresh_s = _fresh_s(answer.headers.get("cache-control", ""))
    if before is not None and answer.status == 304 and before.fresh_s == fresh_s:
        return before
    body = before.body if before is not None and answer.status == 304 else answer.body
    headers = answer.headers
    return Document(
        url=url,
        body=body,
        digest=await digest_of(body),
        content_type=headers.get("content-type", before.content_type if before is not None else ""),
        etag=headers.get("etag"),
        last_modified=headers.get("last-modified"),
        fresh_s=fresh_s,
    )


def _fresh_s(cache_control: str) -> float:
    found = _MAX_AGE.search(cache_control)
    return _FRESH_MIN_S if found is None else min(max(float(found[1]), _FRESH_MIN_S), _FRESH_MAX_S)
