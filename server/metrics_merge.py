"""Metrics of several processes as one page: ours are added up, those of the interpreter name the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeAlias, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["merge_pages"]

_Labels: TypeAlias = tuple[tuple[str, str], ...]

# Of these the worst says how the whole is; all other figures of ours are amounts.
_WORST: Final[Mapping[str, Callable[[float, float], float]]] = {
    "freya_bus_healthy": min,
    "freya_storage_trouble": max,
    "freya_draining": max,
}


class _Sample(Protocol):
    """As much of the library's Sample as is used, since its own types leave gaps."""

    name: str
    labels: Mapping[str, str]
    value: float


class _Family(Protocol):
    name: str
    documentation: str
    type: str
    samples: list[_Sample]


_parse = cast("Callable[[str], Iterable[_Family]]", text_string_to_metric_families)


def merge_pages(pages: Mapping[int, bytes], *, workers: int) -> bytes:
    """One page out of one for each worker that answered; `workers` is how many there should be."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(pages, workers))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, pages: Mapping[int, bytes], workers: int) -> None:
        self._pages = pages
        self._workers = workers

    def describe(self) -> Iterable[Metric]:
        """Nothing to check in advance: the registry has this one collector."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every family of every page, once."""
        families: dict[str, _Family] = {}
        values: dict[str, dict[tuple[str, _Labels], float]] = {}
        for slot, page in sorted(self._pages.items()):
            for family in _parse(page.decode()):
                families.setdefault(family.name, family)
                _add(values.setdefault(family.name, {}), family, slot)
        for name, family in families.items():
            merged = Metric(name, family.documentation, family.type)
            for (sample, labels), value in values[name].items():
                merged.add_sample(sample, dict(labels), value)
            yield merged
        yield GaugeMetricFamily("freya_workers", "Processes on this port.", self._workers)
        yield GaugeMetricFamily("freya_workers_answering", "Of them on this page.", len(self._pages))


def _add(values: dict[tuple[str, _Labels], float], family: _Family, slot: int) -> None:
    ours = family.name.startswith("freya_")
    for sample in family.samples:
        labels = dict(sample.labels) if ours else {**sample.labels, "worker": str(slot)}
        key = sample.name, tuple(sorted(labels.items()))
        if key in values:
            join = _WORST.get(family.name, float.__add__)
            values[key] = join(values[key], sample.value)
        else:
            values[key] = sample.value
