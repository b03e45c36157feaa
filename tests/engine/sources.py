"""Sources whose answers the test gives, through the very interface that all sources have."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import anyio

from protocol.feed import ContextEntry, FeedItem
from protocol.frozen import JsonValue
from server.engine import Answer, Context, FeedSource
from tests.support.clock import START

__all__ = ["Both", "Call", "Contextual", "Fetching", "Pushing", "Source"]

T = TypeVar("T")


class Call(Generic[T]):
    """One call of a source, which waits for its answer."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.cancelled = False
        self._answered = anyio.Event()
        self._answer: T | BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has its answer, or nobody waits for one."""
        return self.cancelled or self._answered.is_set()

    def answer(self, answer: T | None) -> None:
        self._answer = answer
        self._answered.set()

    def fail(self, raised: BaseException) -> None:
        self._answer = raised
        self._answered.set()

    async def wait(self) -> T | None:
        try:
            await self._answered.wait()
        except BaseException:
            self.cancelled = True
            raise
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


Items = Sequence[FeedItem] | Answer
Entries = Sequence[ContextEntry]


class Source(FeedSource):
    """What all of them share. A script answers calls by itself; without one they wait for the test."""

    def __init__(
        self, name: str, *needs: str, timeout_s: float = 10.0, refresh_every_s: float = 300.0
    ) -> None:
        self.id = name
        self.dependencies = needs
        self.timeout_s = timeout_s
        self.refresh_every_s = refresh_every_s
        self.item_calls: list[Call[Items]] = []
        self.context_calls: list[Call[Entries]] = []
        self.items_script: Callable[[Context], Items | None] | None = None
        self.context_script: Callable[[Context], Entries | None] | None = None
        self.key_script: Callable[[Context], Hashable] | None = None
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = 0

    def one(
        self, local: str = "1", value: JsonValue = 0, expires_at: datetime | None = None, **data: JsonValue
    ) -> FeedItem:
        return self.item(
            local, type="test", timestamp=START, data={"value": value, **data}, expires_at=expires_at
        )

    def known(self, value: JsonValue, *key: str | int | float) -> ContextEntry:
        return self.entry(*(key or ("now",)), value=value)

    def showing(self, value: JsonValue = 0) -> Source:
        """Answers every call for items with one item of this value."""
        self.items_script = lambda _: [self.one(value=value)]
        return self

    def knowing(self, value: JsonValue) -> Source:
        """Answers every call for context with one entry of this value."""
        self.context_script = lambda _: [self.known(value)]
        return self

    def input_key(self, ctx: Context) -> Hashable:
        return super().input_key(ctx) if self.key_script is None else self.key_script(ctx)

    async def asked_for_items(self, ctx: Context) -> Items | None:
        return await self._asked(ctx, self.item_calls, self.items_script)

    async def asked_for_context(self, ctx: Context) -> Entries | None:
        return await self._asked(ctx, self.context_calls, self.context_script)

    async def aclose(self) -> None:
        self.closed += 1

    async def _asked(
        self, ctx: Context, calls: list[Call[T]], script: Callable[[Context], T | None] | None
    ) -> T | None:
        call: Call[T] = Call(ctx)
        calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if script is not None:
                return script(ctx)
            return await call.wait()
        finally:
            self.in_flight -= 1


class Pushing(Source):
    """Is never asked."""


class Fetching(Source):
    """Is asked for items."""

    async def fetch_items(self, ctx: Context) -> Items | None:
        return await self.asked_for_items(ctx)


class Contextual(Source):
    """Is asked for context."""

    async def fetch_context(self, ctx: Context) -> Entries | None:
        return await self.asked_for_context(ctx)


class Both(Source):
    """Is asked for both."""

    async def fetch_context(self, ctx: Context) -> Entries | None:
        return await self.asked_for_context(ctx)

    async def fetch_items(self, ctx: Context) -> Items | None:
        return await self.asked_for_items(ctx)


def values(items: Sequence[FeedItem]) -> Mapping[str, JsonValue]:
    """What each item says, by id."""
    return {item.id: item.data["value"] for item in items}
