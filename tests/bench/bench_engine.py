"""What one update costs on its way through the engine, beside what it costs to make the one item (checked,
frozen, encoded).

    python -m tests.bench.bench_engine

A source reports a list of 8 items of which one changed, 20,000 times; the engine has 6 other sources of 8
items. Compare the ratios, not the microseconds: they are the machine's.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TypeVar

import anyio

from protocol.feed import FeedItem
from protocol.ids import SourceId
from server.engine.clock import SystemClock
from server.engine.context import Context
from server.engine.engine import FeedEngine
from server.engine.processors import NOTHING, Processed
from server.engine.source import FeedSource
from server.engine.tasks import TaskScope

__all__: list[str] = []

ROUNDS = 20_000
STRETCH = 100
T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = {"title": "A reminder of ordinary length", "notes": "x" * 80, "priority": 2, "done": False}


class Pushing(FeedSource):
    def __init__(self, name: str) -> None:
        self.id = name

    def items(self) -> list[FeedItem]:
        return [self.item(str(i), type="t", timestamp=NOW, data={**BODY, "n": i}) for i in range(8)]


class Idle:
    name = "bench.idle"

    def __call__(self, items: Sequence[FeedItem], ctx: Context) -> Processed:
        return NOTHING


def changing(source: Pushing, round_: int) -> FeedItem:
    return source.item("3", type="t", timestamp=NOW, data={**BODY, "n": 1_000_000 + round_})


def versions(source: Pushing) -> list[list[FeedItem]]:
    """Lists in which the fourth item is another each time."""
    first = source.items()
    return [[*first[:3], changing(source, round_), *first[4:]] for round_ in range(ROUNDS)]


def engine_of(scope: TaskScope, *processors: Idle) -> tuple[FeedEngine, list[Pushing]]:
    sources = [Pushing(f"bench.s{i}") for i in range(7)]
    engine = FeedEngine(
        clock=SystemClock(),
        tasks=scope,
        on_change=lambda _: None,
        processors=processors,
        order=[SourceId(source.id) for source in sources],
    )
    for source in sources:
        engine.add(source)
        source.handle.push_items(source.items())
    return engine, sources


def per_round_us(fn: Callable[[T], object], rounds: Sequence[T]) -> float:
    """The best of many short stretches: what else the machine does is no part of it."""
    best = float("inf")
    gc.collect()
    gc.disable()
    for start in range(0, len(rounds), STRETCH):
        stretch = rounds[start : start + STRETCH]
        began = perf_counter()
        for one in stretch:
            fn(one)
        best = min(best, (perf_counter() - began) / len(stretch))
    gc.enable()
    return best * 1e6


async def measure() -> None:
    async with anyio.create_task_group() as group:
        scope = TaskScope(group)
        for title, processors in (("no post-processor", ()), ("one that does nothing", (Idle(),))):
            engine, sources = engine_of(scope, *processors)
            source = sources[2]
            rounds = versions(source)
            make_us = per_round_us(partial(changing, source), range(ROUNDS))
            source.handle.push_items(rounds[-1])  # so that all but one are the very objects that are held
            update_us = per_round_us(source.handle.push_items, rounds)
            again_us = per_round_us(
                source.handle.push_items, [list(source.items()) for _ in range(ROUNDS // 4)]
            )
            assert engine.statistics().emissions >= ROUNDS
            print(
                f"{title:24} item {make_us:5.2f} us   engine {update_us:5.2f} us"
                f"   ratio {update_us / make_us:4.2f}   nothing new, all objects new {again_us:5.2f} us"
            )
            await engine.aclose()
        await measure_memory(scope)


async def measure_memory(scope: TaskScope) -> None:
    """An idle engine, its seven sources with it, without what they hold."""
    order = tuple(SourceId(f"bench.s{i}") for i in range(7))

    def one() -> FeedEngine:
        engine = FeedEngine(clock=SystemClock(), tasks=scope, on_change=lambda _: None, order=order)
        for name in order:
            engine.add(Pushing(name))
        return engine

    engines = [one()]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    engines += [one() for _ in range(500)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"an idle engine with 7 sources: {(after - before) / 500 / 1024:.1f} KiB, {scope.count} tasks")
    for engine in engines:
        await engine.aclose()


if __name__ == "__main__":
    anyio.run(measure)
