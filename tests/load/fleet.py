"""The driver's processes as one: a command goes to all of them, and their answers come back together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from tests.load.histogram import Histogram, Timeline
from tests.load.target import Place, pin
from tests.support.programs import ROOT, bare_environment

__all__ = ["Connected", "Figures", "Fleet", "Plan", "fleet"]

Json = dict[str, Any]
_PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who the clients are. `config` is that of `freya.synthetic` in the feeds they see (None: none); `watch`
    the one feed that all of them follow, instead of their own; `counts_only` does without looking at what is
    in the frames."""

    connections: int
    prefix: str = "load-"
    config: Mapping[str, Any] | None = None
    watch: str | None = None
    counts_only: bool = False
    processes: int = 1
    core: int | None = 1


@dataclass(frozen=True)
class Connected:
    """How many came in, how long it took in all, and each of them."""

    seconds: float
    took: Histogram


@dataclass
class Figures:
    """What all processes have counted."""

    latency: Timeline
    age: Timeline
    patches: Timeline
    late: Timeline
    deltas: int = 0
    snapshots: int = 0
    bytes_in: int = 0
    ticks: int = 0
    conflated: int = 0
    faults: int = 0
    lost: int = 0


class Fleet:
    """Processes that have been told who their clients are."""

    def __init__(self, place: Place, plan: Plan, progress: Callable[[str, int, int], None]) -> None:
        self.plan = plan
        self.problems: list[str] = []
        self._progress = progress
        self._workers = [self._start(plan.core) for _ in range(plan.processes)]
        for worker, (first, count) in zip(
            self._workers, _shares(plan.connections, plan.processes), strict=True
        ):
            begin = {
                "host": place.host,
                "port": place.port,
                "keys": place.keys,
                "scopes": ["feed:watch"] if plan.watch is not None else [],
                "sources": plan.connections // 20_000 + 1,
                "prefix": plan.prefix,
                "first": first,
                "count": count,
                "config": plan.config,
                "watch": plan.watch,
                "countsOnly": plan.counts_only,
            }
            self._send(worker, begin)
        for worker in self._workers:
            self._answer(worker, "begin")

    def tell(self, do: str, **arguments: Any) -> list[Json]:
        """Has all of them do the same, and returns what each has to say."""
        for worker in self._workers:
            self._send(worker, {"do": do, **arguments})
        answers = [self._answer(worker, do) for worker in self._workers]
        for answer in answers:
            self.problems += answer.get("problems", [])
        return answers

    def connect(
        self, *, per_s: float = 0.0, at_once: int = 200, query: str = "", resume: bool = False
    ) -> Connected:
        """Connects all clients, at that rate together (0: as fast as they can); each until its state."""
        share = per_s / len(self._workers)
        answers = self.tell("connect", perS=share, atOnce=at_once, query=query, resume=resume)
        took = Histogram()
        for answer in answers:
            took.add(Histogram.from_wire(answer["connected"]))
        return Connected(max(answer["seconds"] for answer in answers), took)

    def settle(self, moment: float, patience_s: float = 60.0) -> int:
        """How many clients have not seen what was due at that moment."""
        answers = self.tell("settle", moment=moment, patienceS=patience_s)
        return sum(answer["missing"] for answer in answers)

    def figures(self) -> Figures:
        """What was counted so far."""
        figures = Figures(Timeline(), Timeline(), Timeline(), Timeline())
        for answer in self.tell("figures"):
            figures.latency.add(Timeline.from_wire(answer["latency"]))
            figures.age.add(Timeline.from_wire(answer["age"]))
            figures.patches.add(Timeline.from_wire(answer["patches"]))
            figures.late.add(Timeline.from_wire(answer["late"]))
            figures.deltas += answer["deltas"]
            figures.snapshots += answer["snapshots"]
            figures.bytes_in += answer["bytesIn"]
            figures.ticks += answer["ticks"]
            figures.conflated += answer["conflated"]
            figures.faults += answer["faults"]
            figures.lost += answer["lost"]
        return figures

    def close(self) -> None:
        """Ends the processes, and with them their sockets."""
        for worker in self._workers:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.close()
            try:
                worker.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            worker.stdout.close()

    def _start(self, core: int | None) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.load.worker"],
            cwd=ROOT,
            env=bare_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if core is not None:
            pin(worker.pid, core)
        return worker

    def _send(self, worker: subprocess.Popen[bytes], command: Json) -> None:
        assert worker.stdin is not None
        worker.stdin.write(orjson.dumps(command) + b"\n")
        worker.stdin.flush()

    def _answer(self, worker: subprocess.Popen[bytes], what: str) -> Json:
        assert worker.stdout is not None
        for line in worker.stdout:
            answer: Json = orjson.loads(line)
            if "done" in answer:
                return answer["done"]
            self._progress(what, answer["progress"], self.plan.connections)
        raise RuntimeError(f"a process of the driver ended during {what!r}; its words are above")


@contextmanager
def fleet(place: Place, plan: Plan, progress: Callable[[str, int, int], None]) -> Generator[Fleet]:
    """A fleet for as long as the block runs."""
    one = Fleet(place, plan, progress)
    try:
        yield one
    finally:
        one.close()


def _shares(total: int, parts: int) -> list[tuple[int, int]]:
    bounds = [total * part // parts for part in range(parts + 1)]
    return [(low, high - low) for low, high in pairwise(bounds)]
