"""What is fetched once for everybody: values by key, fresh for a while, with one call under way a key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from server.engine.clock import Clock
from server.engine.source import SourceFailure
from server.upstream.failures import again
from server.upstream.flights import Flights

__all__ = ["Shared", "SharedStatistics"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _weightless(_: object) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class SharedStatistics:
    """Counts since the start, and what is held now."""

    hits: int
    """Answered from what was there."""
    loads: int
    """Calls made."""
    failures: int
    """Of them in vain."""
    joined: int
    """Answered by a call that somebody else had begun."""
    held: int
    held_bytes: int


class _Entry(Generic[V]):
    """What is known of a key: its last value, its last failure, and until when the younger of them holds."""

    __slots__ = ("failure", "until_s", "value", "weight")

    def __init__(self) -> None:
        self.value: V | None = None
        self.failure: SourceFailure | None = None
        self.until_s = 0.0
        self.weight = 0


class Shared(Generic[K, V]):
    """Values that many sessions ask for, each loaded at most once in `fresh_s` seconds.

    A failure is kept too, for `failure_s` or as long as the upstream asks to be left alone: ten thousand
    sessions that each try again by themselves are ten thousand calls at the worst moment. Bounded by `most`
    keys, and by `most_bytes` of what `weigh` says; those not asked for the longest go first.

    For one event loop; any number of concurrent callers.
    """

    def __init__(
        self,
        *,
        fresh_s: float | Callable[[V], float],
        failure_s: float = 15.0,
        most: int = 10_000,
        weigh: Callable[[V], int] = _weightless,
        most_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._fresh_s = fresh_s
        self._failure_s = failure_s
        self._most = most
        self._weigh = weigh
        self._most_bytes = most_bytes
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._flights: Flights[K, V] = Flights()
        self._bytes = 0
        self._hits = self._loads = self._failures = 0

    async def get(self, clock: Clock, key: K, load: Callable[[V | None], Awaitable[V]]) -> V:
        """The value of a key. If there is no fresh one, `load` is called with the last one there was.

        Raises SourceFailure, and what else `load` raises. Cancelled while loading: the next who waits loads.
        """
        entry = self._entries.get(key)
        if entry is not None and clock.monotonic() < entry.until_s:
            self._entries.move_to_end(key)
            self._hits += 1
            return _answer(entry, clock)
        return await self._flights.join(key, lambda: self._load(clock, key, load))

    def peek(self, clock: Clock, key: K) -> V | None:
        """The value of a key if there is a fresh one, without waiting and without loading."""
        entry = self._entries.get(key)
        if entry is None or entry.failure is not None or clock.monotonic() >= entry.until_s:
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry.value

    def forget(self, key: K) -> None:
        """Has the next caller load it anew."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.weight

    def statistics(self) -> SharedStatistics:
        """See SharedStatistics."""
        return SharedStatistics(
            hits=self._hits,
            loads=self._loads,
            failures=self._failures,
            joined=self._flights.joined,
            held=len(self._entries),
            held_bytes=self._bytes,
        )

    async def _load(self, clock: Clock, key: K, load: Callable[[V | None], Awaitable[V]]) -> V:
        before = self._entries.get(key)
        self._loads += 1
        try:
            value = await load(None if before is None else before.value)
        except SourceFailure as failure:
            self._failures += 1
            self._keep_failure(clock, key, failure)
            raise
        self._keep(clock, key, value)
        return value

    def _keep(self, clock: Clock, key: K, value: V) -> None:
        entry = self._entry(key)
        fresh_s = self._fresh_s(value) if callable(self._fresh_s) else self._fresh_s
        self._bytes -= entry.weight
        entry.value, entry.failure = value, None
        entry.weight = self._weigh(value)
        entry.until_s = clock.monotonic() + fresh_s
        self._bytes += entry.weight
        self._make_room()

    def _keep_failure(self, clock: Clock, key: K, failure: SourceFailure) -> None:
        entry = self._entry(key)
        entry.failure = again(failure)
        entry.until_s = clock.monotonic() + max(self._failure_s, failure.retry_after_s or 0.0)
        self._make_room()

    def _make_room(self) -> None:
        while self._entries and (len(self._entries) > self._most or self._bytes > self._most_bytes):
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= dropped.weight

    def _entry(self, key: K) -> _Entry[V]:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
        self._entries.move_to_end(key)
        return entry


def _answer(entry: _Entry[V], clock: Clock) -> V:
    if entry.failure is not None:
        raise again(entry.failure, max(entry.until_s - clock.monotonic(), 0.0))
    return entry.value  # pyright: ignore[reportReturnType] -- an entry that holds has a value or a failure
