"""How long the loop stands still for the collector, with 5,000 users' sessions in the process.

    python -m tests.bench.bench_gc [--users 5000]

Sessions are made as in a storm and then updated, once with the interpreter's own thresholds and once with the
server's (which also freezes what is there at the start). Pauses are seen through `gc.callbacks`, as the
server itself sees them. A full collection is then asked for, which the server's thresholds leave to whoever
needs the memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Literal

import anyio

from server.loop_watch import settle_memory
from server.session.user_session import UserSession
from server.sources.synthetic import SyntheticSource, due_at, tick_at
from tests.bench.bench_session import Bench, Follower

__all__: list[str] = []

ROUNDS = 10
DEFAULTS = (700, 10, 10)


class Pauses:
    """Every collection while it watches: its generation and how long it took."""

    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []
        self._began = 0.0

    def __call__(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self.found.append((info["generation"], perf_counter() - self._began))

    def tell(self, name: str) -> None:
        """One line: how many of each generation, the longest pause, all of them together."""
        counts = [sum(1 for generation, _ in self.found if generation == of) for of in range(3)]
        longest = max((pause for _, pause in self.found), default=0.0) * 1000
        full = max((pause for generation, pause in self.found if generation == 2), default=0.0) * 1000
        in_all = sum(pause for _, pause in self.found) * 1000
        sys.stdout.write(
            f"{name:<44} {counts[0]:>6} {counts[1]:>5} {counts[2]:>4} collections"
            f"   longest {longest:7.1f} ms (full {full:7.1f})   in all {in_all:8.1f} ms\n"
        )
        sys.stdout.flush()


@contextmanager
def watched() -> Generator[Pauses]:
    """Sees the collections of a block."""
    pauses = Pauses()
    gc.callbacks.append(pauses)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(pauses)


async def measure(users: int, name: str, settle: Callable[[], None]) -> None:
    """A storm, updates, and a full collection."""
    async with anyio.create_task_group() as group:
        bench = Bench(group)
        settle()
        sessions: list[UserSession] = []
        with watched() as pauses:
            for number in range(users):
                session = await bench.session(bench.rows(number))
                Follower(session)
                sessions.append(session)
        pauses.tell(f"{name}: {users} sessions made")
        sources = [session.source(SyntheticSource) for session in sessions]
        config, first = sources[0].config, tick_at(sources[0].config, datetime.now(UTC).timestamp())
        with watched() as pauses:
            for round_ in range(1, ROUNDS + 1):
                for source in sources:
                    source.tick(due_at(config, first + round_) + 1.0)
        pauses.tell(f"{name}: {users * ROUNDS} updates")
        with watched() as pauses:
            gc.collect()
        pauses.tell(f"{name}: a full collection")
        for session in sessions:
            session.close("shutdown")
            await session.aclose()


async def main() -> None:
    """Both ways, each in its turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=5000)
    users: int = parser.parse_args().users
    await measure(users, "the interpreter's thresholds", partial(gc.set_threshold, *DEFAULTS))
    gc.collect()
    await measure(users, "the server's", settle_memory)


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
