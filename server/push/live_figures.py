"""What `stats.update` says: figures that an operator can read without doing sums.

Rates and quantiles are of the last few seconds. Everything that comes from several replicas is sent around as
numbers that can be added up, buckets of histograms too; only the sum is turned into what people read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Final

from protocol.ids import UserId
from server.push.counters import AGE_BOUNDS_S, Counters
from server.push.hub import Hub

__all__ = ["LiveFigures", "quantile_ms", "readable"]

# Rates are taken over about this long: steady enough to read, quick enough to see what one does.
_WINDOW_S: Final = 3.0
# Figures asked for again within this time are the same ones: any number of operators costs what one does.
_FRESH_S: Final = 0.2
_MAX_SAMPLES: Final = 32
_AGE: Final = "age≤"
_BUCKETS: Final = tuple(f"{_AGE}{bound}" for bound in (*AGE_BOUNDS_S, "∞"))
_TALKERS: Final = 8


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    counts: Mapping[str, float]
    ages: tuple[int, ...]


class LiveFigures:
    """The figures of one replica. `gauges` are its numbers of this moment, among them whatever the rooms
    around it count; all of them can be added to those of other replicas."""

    def __init__(self, hub: Hub, gauges: Callable[[], Mapping[str, float]]) -> None:
        self._hub = hub
        self._gauges = gauges
        self._samples: deque[_Sample] = deque([self._sample(hub.clock.monotonic())], _MAX_SAMPLES)
        self._latest: tuple[float, Mapping[str, float]] = (float("-inf"), {})
        self._talkers: Mapping[UserId, float] = {}
        self._talkers_since = hub.clock.monotonic()

    def numbers(self) -> Mapping[str, float]:
        """Gauges, rates a second, and how many deliveries were how old; see `readable`."""
        now = self._hub.clock.monotonic()
        made_at, made = self._latest
        if now - made_at < _FRESH_S:
            return made
        sample = self._sample(now)
        before = self._before(now)
        self._samples.append(sample)
        elapsed_s = max(now - before.at, 0.001)
        rates = {name: (count - before.counts[name]) / elapsed_s for name, count in sample.counts.items()}
        ages = (late - early for late, early in zip(sample.ages, before.ages, strict=True))
        numbers = {**self._gauges(), **rates, **dict(zip(_BUCKETS, ages, strict=True))}
        self._latest = now, numbers
        return numbers

    def talkers(self) -> Sequence[Mapping[str, object]]:
        """Who sent us most messages lately, the loudest first."""
        now = self._hub.clock.monotonic()
        elapsed_s = now - self._talkers_since
        if elapsed_s >= _WINDOW_S:
            heard = self._hub.counters.take_talkers()
            loudest = sorted(heard.items(), key=lambda talker: (-talker[1], talker[0]))[:_TALKERS]
            self._talkers = {user: count / elapsed_s for user, count in loudest}
            self._talkers_since = now
        return [{"user": user, "messagesPerS": round(rate, 2)} for user, rate in self._talkers.items()]

    def _sample(self, now: float) -> _Sample:
        counters = self._hub.counters
        return _Sample(now, _counted(counters, self._hub.tick.revisions), counters.push_age.value.counts)

    def _before(self, now: float) -> _Sample:
        """The latest sample that is as old as the window, or the oldest there is."""
        while len(self._samples) > 1 and now - self._samples[1].at >= _WINDOW_S:
            self._samples.popleft()
        return self._samples[0]


def _counted(counters: Counters, revisions: int) -> Mapping[str, float]:
    return {
        "updatesPerS": revisions,
        "deliveriesPerS": counters.deltas + counters.snapshots,
        "conflatedPerS": counters.conflated,
        "messagesInPerS": counters.messages_in,
        "bytesOutPerS": counters.bytes_out,
        "cpuPercent": process_time() * 100,
    }


def readable(total: Mapping[str, float]) -> dict[str, object]:
    """Added-up numbers as they are shown: buckets become quantiles, which are absent where there is nothing
    to measure."""
    shown: dict[str, object] = {
        name: value if isinstance(value, int) else round(value, 2)
        for name, value in total.items()
        if not name.startswith(_AGE)
    }
    counts = [total.get(bucket, 0) for bucket in _BUCKETS]
    for name, share in (("latencyP50Ms", 0.5), ("latencyP99Ms", 0.99)):
        value = quantile_ms(AGE_BOUNDS_S, counts, share)
        if value is not None:
            shown[name] = value
    return shown


def quantile_ms(bounds_s: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """The value that this share of what was counted does not exceed, taken evenly within its bucket; None for
    nothing counted. Beyond the last bound it is that bound."""
    wanted = sum(counts) * share
    if wanted <= 0:
        return None
    below = 0.0
    for bound, lower, count in zip(bounds_s, (0.0, *bounds_s), counts, strict=False):
        if below + count >= wanted:
            return round((lower + (bound - lower) * (wanted - below) / count) * 1000, 2)
        below += count
    return bounds_s[-1] * 1000
