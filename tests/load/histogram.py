"""Many durations in little room: buckets that grow by 4 %, kept apart for each second."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["Histogram", "Timeline"]

_STEP = math.log(1.04)
_LEAST_MS = 0.001


class Histogram:
    """Durations in milliseconds; a percentile is exact to 4 %."""

    __slots__ = ("buckets", "count", "max_ms")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.max_ms = 0.0

    def record(self, ms: float, times: int = 1) -> None:
        """Counts one duration (or several equal ones); a clock that ran backwards counts as nothing."""
        bucket = 0 if ms <= _LEAST_MS else int(math.log(ms / _LEAST_MS) / _STEP) + 1
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += times
        self.max_ms = max(self.max_ms, ms)

    def percentile_ms(self, percent: float) -> float:
        """The duration that so many percent do not exceed; 0 where nothing was counted."""
        wanted = math.ceil(self.count * percent / 100)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(self.max_ms, _LEAST_MS * math.exp(bucket * _STEP))
        return 0.0

    def add(self, other: Histogram) -> None:
        """Takes in all that another one has counted."""
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += other.count
        self.max_ms = max(self.max_ms, other.max_ms)

    def figures(self, name: str) -> dict[str, float]:
        """The usual percentiles, as `NAME_p99_ms`."""
        percents = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
        found = {f"{name}_{key}_ms": round(self.percentile_ms(value), 3) for key, value in percents.items()}
        return found | {f"{name}_max_ms": round(self.max_ms, 3)}

    def wire(self) -> list[Any]:
        """As plain JSON."""
        return [self.count, self.max_ms, list(self.buckets.items())]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> Histogram:
        """The other way round."""
        made = cls()
        made.count, made.max_ms, buckets = wire
        made.buckets = dict(buckets)
        return made


class Timeline:
    """A histogram for every second."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: dict[int, Histogram] = {}

    def record(self, now: float, ms: float) -> None:
        """Counts a duration that ended at `now` (Unix seconds)."""
        histogram = self.seconds.get(int(now))
        if histogram is None:
            histogram = self.seconds[int(now)] = Histogram()
        histogram.record(ms)

    def add(self, other: Timeline) -> None:
        """Takes in all that another one has counted."""
        for second, histogram in other.seconds.items():
            mine = self.seconds.setdefault(second, Histogram())
            mine.add(histogram)

    def total(self, begin: float = 0.0, end: float = math.inf) -> Histogram:
        """All whole seconds from `begin` to before `end`, as one."""
        return _sum(histogram for second, histogram in self.seconds.items() if begin <= second < end)

    def wire(self) -> list[Any]:
        """As plain JSON."""
        return [[second, histogram.wire()] for second, histogram in self.seconds.items()]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> Timeline:
        """The other way round."""
        made = cls()
        for second, histogram in wire:
            made.seconds[second] = Histogram.from_wire(histogram)
        return made


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for histogram in histograms:
        total.add(histogram)
    return total
