"""The store of the HTTP cache: answers in memory, within bounds.

What may be kept, and for how long, is decided by the cache library (RFC 9111); this only keeps it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from hishel import AsyncBaseStorage, Entry, Headers, Request, Response

from server.engine.clock import Clock

__all__ = ["MemoryStorage"]

# What nobody asked for in a day is not worth its memory, whatever its server promises.
_KEPT_S = 24 * 3600.0


@dataclass(slots=True)
class _Kept:
    key: str
    request: Request
    response: Response
    body: bytes
    ttl_deadline: float | None
    tti: float | None
    expires_at: float | None

    @property
    def weight(self) -> int:
        return len(self.body) + 1024  # of headers and objects, about


class MemoryStorage(AsyncBaseStorage):
    """Keeps up to `max_bytes` of answers of at most `max_answer_bytes` each; those not used for the longest
    go first."""

    def __init__(
        self, clock: Clock, *, max_bytes: int = 32 * 1024 * 1024, max_answer_bytes: int = 4 * 1024 * 1024
    ) -> None:
        super().__init__(default_tti=_KEPT_S, max_stream_size=max_answer_bytes)
        self._clock = clock
        self._max_bytes = max_bytes
        self._kept: OrderedDict[UUID, _Kept] = OrderedDict()
        self._of_key: dict[str, list[UUID]] = {}
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """The size of everything kept, about."""
        return self._bytes

    async def create_entry(
        self,
        request: Request,
        response: Response,
        key: str,
        *,
        ttl: float | None = None,
        tti: float | None = None,
    ) -> Entry:
        """See the base class."""
        deadline, idle = self._limits(ttl, tti, self._clock.monotonic())
        entry_id = uuid4()
        kept = _Kept(key, request, replace(response, stream=None), b"", deadline, idle, None)
        saving = replace(response, stream=self._saving(entry_id, kept, response))
        return Entry(entry_id, request, saving)

    async def get_entries(self, key: str) -> list[Entry]:
        """See the base class."""
        now_s = self._clock.monotonic()
        entries: list[Entry] = []
        for entry_id in tuple(self._of_key.get(key, ())):
            kept = self._kept[entry_id]
            if kept.expires_at is not None and kept.expires_at <= now_s:
                self._drop(entry_id)
                continue
            kept.expires_at = self._expires_at(kept.ttl_deadline, kept.tti, now_s)
            self._kept.move_to_end(entry_id)
            entries.append(Entry(entry_id, kept.request, replace(kept.response, stream=_once(kept.body))))
        return entries

    async def update_headers(self, id: UUID, headers: Headers) -> None:  # noqa: A002 -- the base class's word
        """See the base class."""
        kept = self._kept.get(id)
        if kept is not None:
            kept.response = replace(kept.response, headers=headers)

    async def remove_entry(self, id: UUID) -> None:  # noqa: A002 -- the base class's word
        """See the base class."""
        if id in self._kept:
            self._drop(id)

    async def close(self) -> None:
        """Forgets everything."""
        self._kept.clear()
        self._of_key.clear()
        self._bytes = 0

    async def _saving(self, entry_id: UUID, kept: _Kept, response: Response) -> AsyncIterator[bytes]:
        """The body on its way to whoever asked; kept when they have read all of it."""
        most = self.max_stream_size
        parts: list[bytes] | None = []
        size = 0
        assert isinstance(response.stream, AsyncIterator)
        async for chunk in response.stream:
            size += len(chunk)
            if parts is not None:
                parts.append(chunk)
                if most is not None and size > most:
                    parts = None
            yield chunk
        if parts is not None:
            kept.body = b"".join(parts)
            kept.expires_at = self._expires_at(kept.ttl_deadline, kept.tti, self._clock.monotonic())
            self._keep(entry_id, kept)

    def _keep(self, entry_id: UUID, kept: _Kept) -> None:
        # One answer a key: we always send the same headers, so that none of a key's answers is another's twin
        # by `Vary`, and an older one is never wanted again.
        for older in tuple(self._of_key.get(kept.key, ())):
            self._drop(older)
        self._kept[entry_id] = kept
        self._of_key.setdefault(kept.key, []).append(entry_id)
        self._bytes += kept.weight
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, entry_id: UUID) -> None:
        kept = self._kept.pop(entry_id)
        self._bytes -= kept.weight
        others = self._of_key[kept.key]
        others.remove(entry_id)
        if not others:
            del self._of_key[kept.key]


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
