"""Bounds on how often and how many, as small values that are told the time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Allowances", "Counts", "TokenBucket"]

K = TypeVar("K", bound=Hashable)

_PRUNE_FROM: Final = 1000


class TokenBucket:
    """`burst` at once, `per_s` more each second. Times are monotonic seconds."""

    __slots__ = ("_at", "_burst", "_level", "_per_s")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at = now

    def take(self, now: float, count: float = 1.0) -> float:
        """0 if `count` may go ahead; else in how many seconds it may, and nothing is taken."""
        level = min(self._burst, self._level + (now - self._at) * self._per_s)
        self._at = now
        if level >= count:
            self._level = level - count
            return 0.0
        self._level = level
        return (count - level) / self._per_s

    def is_full(self, now: float) -> bool:
        """Whether it remembers nothing: as good as a new one."""
        return self._level + (now - self._at) * self._per_s >= self._burst


class Allowances(Generic[K]):
    """A bucket for each key, kept while it says anything."""

    __slots__ = ("_buckets", "_burst", "_per_s", "_prune_at")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[K, TokenBucket] = {}
        self._prune_at = _PRUNE_FROM

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: K, now: float, count: float) -> float:
        """0 if `count` may go ahead; else in how many seconds. More than a whole burst counts as one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._prune_at:
                self._prune(now)
            bucket = self._buckets[key] = TokenBucket(self._per_s, self._burst, now)
        return bucket.take(now, min(count, self._burst))

    def _prune(self, now: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full(now)}
        self._prune_at = max(_PRUNE_FROM, 2 * len(self._buckets))


class Counts(Generic[K]):
    """How many there are of each; what has none takes no room."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[K, int] = {}

    def __getitem__(self, key: K) -> int:
        return self._counts.get(key, 0)

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: K) -> None:
        """One more."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def drop(self, key: K) -> None:
        """One less."""
        left = self._counts.get(key, 0) - 1
        if left > 0:
            self._counts[key] = left
        else:
            self._counts.pop(key, None)
