"""What is held against the samples of a soak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.soak.house import Sample

__all__ = ["Soak", "steady", "wrong"]

_WARM_UP = 0.2
_GROWTH = 0.05
_GROWTH_BYTES = 3 << 20


@dataclass(frozen=True)
class Soak:
    """One run: before anybody came, under load, and after everybody had gone."""

    before: Sample
    during: Sequence[Sample]
    after: Sample
    faults: Sequence[str]


def steady(samples: Sequence[Sample]) -> tuple[float, float]:
    """The median of resident memory in the first and in the last quarter of the time after the warm-up,
    which is a fifth of the whole.
    """
    begin, end = samples[0].at_s, samples[-1].at_s
    warm_s = begin + (end - begin) * _WARM_UP
    quarter_s = (end - warm_s) / 4
    first = [sample.rss for sample in samples if warm_s <= sample.at_s <= warm_s + quarter_s]
    last = [sample.rss for sample in samples if sample.at_s >= end - quarter_s]
    return median(first), median(last)


def wrong(soak: Soak) -> list[str]:
    """Where memory was not flat, where something was left over, and what clients saw that was wrong.

    Flat is memory whose median grew, from the first quarter after the warm-up to the last, by no more than
    five percent and three MiB.
    """
    found = [
        f"{name}: {was} before, {now} after" for name, (was, now) in soak.after.above(soak.before).items()
    ]
    first, last = steady(soak.during)
    if last - first > _GROWTH_BYTES + first * _GROWTH:
        found.append(f"memory grew from {first / (1 << 20):.1f} to {last / (1 << 20):.1f} MiB")
    return [*found, *soak.faults]
