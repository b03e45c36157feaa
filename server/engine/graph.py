"""Who needs whom: the order in which sources are asked and shown, and who cannot run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from protocol.ids import SourceId

__all__ = ["Blocked", "Needs", "Plan", "plan"]

Needs: TypeAlias = "tuple[tuple[SourceId, tuple[SourceId, ...]], ...]"
"""Every source with others that it reads, in registration order."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a source cannot run: `by` is the dependency at fault, `cycle` the way round, if it is one."""

    by: SourceId
    cycle: tuple[SourceId, ...] = ()
    missing: bool = False

    @property
    def reason(self) -> str:
        """The sentence for a settings screen."""
        if self.cycle:
            return f"needs itself: {' -> '.join((*self.cycle, self.cycle[0]))}"
        if self.missing:
            return f"needs {self.by}, which is off or missing"
        return f"needs {self.by}, which is blocked"


@dataclass(frozen=True, slots=True)
class Plan:
    """One arrangement of a set of sources."""

    order: tuple[SourceId, ...]
    """Those that can run, dependencies first, else in registration order."""
    blocked: Mapping[SourceId, Blocked]
    """Those that cannot."""
    before: Mapping[SourceId, tuple[SourceId, ...]]
    """For each that reads others: those of them that come before it."""
    dependents: Mapping[SourceId, tuple[SourceId, ...]]
    """For each that is read, running or not: all that run and read it, also through others, in order."""


# Most users have one of a few sets of sources, and share the plan for it.
@lru_cache(maxsize=1024)
def plan(needs: Needs, uses: Needs = ()) -> Plan:
    """Arranges the sources. One that needs something missing, something blocked or itself is blocked; all
    others are ordered topologically, ties in the order given.

    What a source merely uses comes before it too, where it runs at all, and never blocks anybody: where that
    would take a circle, the order is as if nobody used anything.
    """
    known, used = dict(needs), dict(uses)
    order = tuple(_ordered(known))
    running = set(order)
    blocked = {name: _why(name, known, running) for name in known if name not in running}
    reads = {name: (*known[name], *used.get(name, ())) for name in known if name in running}
    wanted = tuple(_ordered({name: [one for one in reads[name] if one in running] for name in reads}))
    order = wanted if len(wanted) == len(order) else order
    return Plan(order, blocked, _before(order, reads), _dependents(order, reads))


def _ordered(known: Mapping[SourceId, Sequence[SourceId]]) -> Iterator[SourceId]:
    """Kahn's algorithm; the heap makes the earliest registered of those that are ready come next."""
    place = {name: index for index, name in enumerate(known)}
    names = tuple(known)
    waits = {name: len(set(needed)) for name, needed in known.items()}
    needed_by: dict[SourceId, list[SourceId]] = {}
    for name, needed in known.items():
        for dependency in set(needed):
            needed_by.setdefault(dependency, []).append(name)
    ready = [place[name] for name, count in waits.items() if not count]
    heapify(ready)
    while ready:
        name = names[heappop(ready)]
        yield name
        for dependent in needed_by.get(name, ()):
            waits[dependent] -= 1
            if not waits[dependent]:
                heappush(ready, place[dependent])


def _why(name: SourceId, known: Mapping[SourceId, Sequence[SourceId]], running: set[SourceId]) -> Blocked:
    for dependency in known[name]:
        if dependency not in known:
            return Blocked(dependency, missing=True)
    if cycle := _way_back(name, known):
        return Blocked(cycle[1] if len(cycle) > 1 else name, cycle)
    return Blocked(next(dependency for dependency in known[name] if dependency not in running))


def _way_back(name: SourceId, known: Mapping[SourceId, Sequence[SourceId]]) -> tuple[SourceId, ...]:
    """The shortest cycle through `name`, beginning there; empty if there is none."""
    ways: list[tuple[SourceId, ...]] = [(name,)]
    seen: set[SourceId] = set()
    for way in ways:
        for dependency in known.get(way[-1], ()):
            if dependency == name:
                return way
            if dependency not in seen:
                seen.add(dependency)
                ways.append((*way, dependency))
    return ()


def _before(
    order: Sequence[SourceId], reads: Mapping[SourceId, Sequence[SourceId]]
) -> Mapping[SourceId, tuple[SourceId, ...]]:
    place = {name: index for index, name in enumerate(order)}
    last = len(order)
    before = {name: tuple(one for one in reads[name] if place.get(one, last) < place[name]) for name in order}
    return {name: those for name, those in before.items() if those}


def _dependents(
    order: Sequence[SourceId], reads: Mapping[SourceId, Sequence[SourceId]]
) -> Mapping[SourceId, tuple[SourceId, ...]]:
    dependents: dict[SourceId, list[SourceId]] = {}
    for name in order:
        for read in _reached(name, reads):
            dependents.setdefault(read, []).append(name)
    return {name: tuple(those) for name, those in dependents.items()}


def _reached(name: SourceId, reads: Mapping[SourceId, Sequence[SourceId]]) -> set[SourceId]:
    """All that a source reads, also through others; not itself, should it come round in a circle."""
    reached: set[SourceId] = set()
    ahead = [name]
    while ahead:
        new = set(reads.get(ahead.pop(), ())) - reached
        reached |= new
        ahead += new
    return reached - {name}
