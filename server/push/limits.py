"""Bounds on how often and how many, as small values that are told the time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Counts", "TokenBucket"]

K = TypeVar("K", bound=Hashable)


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
