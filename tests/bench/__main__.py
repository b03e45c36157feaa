"""Every figure of docs/performance.md, each beside what it is compared with, in one run.

    python -m tests.bench [NAME...] [--quick]

The machine is shared and noisy: what is compared runs in turns, and the ratio of each turn counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import sleep
from typing import Final, TypeAlias

from server.sources.synthetic import SYNTHETIC_ID
from tests.bench.baselines import bare_loop, c_loop, compiler
from tests.load.fleet import Fleet, Plan, fleet
from tests.load.scenarios import SCENARIOS, Options
from tests.load.target import Place, cost_of, own_server

__all__ = ["main"]

_Cpu: TypeAlias = tuple[float, float]
"""Microseconds of CPU for each message, and of them in user space."""
_FRAME: Final = 512
_WARM_S = 1.0


class Figures:
    """What is printed: a name, what was found, and what was wanted."""

    def tell(self, name: str, found: float, unit: str, wanted: str = "") -> None:
        """One line."""
        sys.stdout.write(f"{name:<66} {found:>9.2f} {unit:<10} {wanted}\n")
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: to see that it runs")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    scale = 0.1 if asked.quick else 1.0
    for name in asked.names or BENCHMARKS:
        sys.stdout.write(f"\n{name}: {BENCHMARKS[name].__doc__}\n")
        BENCHMARKS[name](Figures(), scale)
    return 0


def fan_out(figures: Figures, scale: float) -> None:
    """One feed to 1,000 sockets, 512 B."""
    count, rate, turns = int(1000 * scale), 8.0, 3 if scale == 1 else 1
    counted = Plan(connections=count, counts_only=True)
    with own_server() as ours, bare_loop("fanout", str(rate), str(_FRAME)) as bare:
        config = {"items": 8, "bytes": 170, "ratePerS": rate}
        with fleet(ours, Plan(connections=1, prefix="star", config=config), _silent) as owner:
            owner.connect()
            owner.tell("put", config=config, sourceId=SYNTHETIC_ID)
            watching = Plan(connections=count, prefix="w", config={**config, "seed": 0}, watch="star0")
            in_c = c_loop(str(rate), str(_FRAME)) if compiler() else None
            floor = None if in_c is None else in_c.__enter__()
            try:
                found: list[tuple[_Cpu, _Cpu, _Cpu]] = []
                for _ in range(turns):
                    a = _per_delivery(ours, watching, 5 * scale)
                    b = _per_delivery(bare, counted, 5 * scale)
                    c = (0.0, 0.0) if floor is None else _per_delivery(floor, counted, 5 * scale)
                    found.append((a, b, c))
                    sys.stdout.write(f"  Freya {a[0]:.1f} us, bare loop {b[0]:.1f} us, C {c[0]:.1f} us\n")
                    sys.stdout.flush()
            finally:
                if in_c is not None:
                    in_c.__exit__(None, None, None)
    figures.tell("Freya, CPU of a delivery", median(a[0] for a, _, _ in found), "us")
    figures.tell("  of it in user space", median(a[1] for a, _, _ in found), "us")
    figures.tell("bare uvloop loop, CPU of a delivery", median(b[0] for _, b, _ in found), "us")
    figures.tell("  of it in user space", median(b[1] for _, b, _ in found), "us")
    figures.tell("ratio to the bare uvloop loop", median(a[0] / b[0] for a, b, _ in found), "", "at most 1.2")
    if floor is None:
        sys.stdout.write("no C compiler: the C loop is left out\n")
        return
    figures.tell("C epoll loop, CPU of a delivery", median(c[0] for _, _, c in found), "us")
    figures.tell("ratio to the C loop", median(a[0] / c[0] for a, _, c in found), "", "1.15, native")


def own_feeds(figures: Figures, scale: float) -> None:
    """1,000 users, each with a feed of 8 items of which one changes."""
    count, turns = int(1000 * scale), 3 if scale == 1 else 1
    rate = 2.0
    config = {"items": 8, "bytes": 60, "ratePerS": rate}
    with (
        own_server() as ours,
        bare_loop("own", str(rate)) as bare,
        fleet(ours, Plan(connections=count, prefix="own", config=config), _silent) as users,
        fleet(bare, Plan(connections=count, counts_only=True), _silent) as counted,
    ):
        users.connect()
        users.tell("put", config=config, sourceId=SYNTHETIC_ID)
        counted.connect()
        sleep(_WARM_S)
        found = [(_cost(ours, users, 10 * scale), _cost(bare, counted, 10 * scale)) for _ in range(turns)]
    figures.tell("Freya, CPU of an update", median(a[0] for a, _ in found), "us", "at most 60")
    figures.tell("  of it in user space", median(a[1] for a, _ in found), "us")
    figures.tell(
        "bare encode, diff and write, CPU of an update", median(b[0] for _, b in found), "us", "16 there"
    )
    figures.tell("ratio", median(a[0] / b[0] for a, b in found), "", "60 / 16 = 3.75")


def idle(figures: Figures, scale: float) -> None:
    """10,000 connections, and users with a session, that do nothing."""
    count = int(10_000 * scale)
    with own_server() as ours:
        assert ours.pid is not None
        _connect_and_leave(ours, count // 10, "warm")  # what is made once is not to be counted
        before = cost_of(ours.pid).rss
        plain = Plan(connections=count, prefix="c", counts_only=True)
        with fleet(ours, plain, _silent) as connections:
            connections.connect(query="own=0")
            sleep(_WARM_S)
            after = cost_of(ours.pid).rss
            figures.tell(
                "resident memory of a connection", (after - before) / 1024 / count, "KiB", "at most 3"
            )
            began = cost_of(ours.pid)
            sleep(30 * scale)
            ended = cost_of(ours.pid)
            share = 100 * (ended.cpu_s - began.cpu_s) / (ended.at - began.at)
            figures.tell("CPU of their heartbeats (25 s)", share, "%", "under 5")
    with own_server() as ours:
        result = SCENARIOS["idle"](ours, Options(connections=count, items=6, seconds=30 * scale))
        size = result.figures["rss_kib_per_user"]
        figures.tell("resident memory of a user with session and 8 items", size, "KiB", "at most 24")
        figures.tell("CPU of their heartbeats (25 s)", result.figures["cpu_percent"], "%", "under 5")


def storm(figures: Figures, scale: float) -> None:
    """5,000 users come back at once."""
    count = int(5000 * scale)
    for warm, wanted in (("cold", "2,000"), ("sessions", "4,000"), ("cursors", "4,000")):
        with own_server() as ours:
            options = Options(connections=count, warm=warm)
            result = SCENARIOS["storm"](ours, options)
            _check(result.figures)
            figures.tell(
                f"{warm}: users a second", result.figures["users_per_s"], "1/s", f"at least {wanted}"
            )
            figures.tell(
                f"{warm}: users a second of the server's CPU", result.figures["users_per_cpu_s"], "1/s"
            )


def slow(figures: Figures, scale: float) -> None:
    """2,000 sockets at 10 updates a second, of which 10 % stop reading for a minute."""
    with own_server() as ours:
        options = Options(connections=int(2000 * scale), rate_per_s=10.0, seconds=60 * scale)
        result = SCENARIOS["slow"](ours, options)
        _check(result.figures)
        held = result.figures["rss_kib_per_stalled"]
        figures.tell("memory held for a stalled socket", held, "KiB", "at most 64")
        figures.tell("sockets lost", result.figures["lost"], "", "0")
        ratio = result.figures["latency_p99_ratio"]
        figures.tell("p99 of the others, to that without stalls", ratio, "", "at most 1.5")


def age(figures: Figures, scale: float) -> None:
    """Age of the state at the client, by updates a second."""
    count = int(5000 * scale)
    for rate in (0.5, 1.0, 1.5, 2.0, 3.0):
        with own_server() as ours:
            options = Options(connections=count, rate_per_s=rate, seconds=15 * scale)
            result = SCENARIOS["steady"](ours, options).figures
            _check(result)
            wanted = "under 10" if rate == 1.0 else ""
            name = f"{count * rate:.0f} updates a second"
            figures.tell(f"{name}: p99 age", result["age_p99_ms"], "ms", wanted)
            figures.tell(f"{name}: CPU of the server", result["cpu_percent"], "%")
            if result["age_p99_ms"] > 50:
                figures.tell("the knee is below", count * rate, "1/s")
                return


BENCHMARKS: Final[dict[str, Callable[[Figures, float], None]]] = {
    "fan-out": fan_out,
    "own-feeds": own_feeds,
    "idle": idle,
    "storm": storm,
    "slow": slow,
    "age": age,
}


def _per_delivery(place: Place, plan: Plan, seconds: float) -> _Cpu:
    """Microseconds of CPU, and of it in user space, for each message that a client received whole."""
    with fleet(place, plan, _silent) as clients:
        clients.connect()
        sleep(_WARM_S)
        return _cost(place, clients, seconds)


def _cost(place: Place, clients: Fleet, seconds: float) -> _Cpu:
    assert place.pid is not None
    began, before = cost_of(place.pid), clients.figures()
    sleep(seconds)
    ended, after = cost_of(place.pid), clients.figures()
    assert not clients.problems, clients.problems
    assert not after.faults, "what was received is wrong"
    count = after.deltas - before.deltas
    return (ended.cpu_s - began.cpu_s) / count * 1e6, (ended.user_s - began.user_s) / count * 1e6


def _connect_and_leave(place: Place, count: int, prefix: str) -> None:
    with fleet(place, Plan(connections=count, prefix=prefix, counts_only=True), _silent) as clients:
        clients.connect(query="own=0")
    sleep(_WARM_S)


def _check(figures: dict[str, float]) -> None:
    """Throughput without correctness does not count."""
    assert not figures["missing"], "a client has not what was published"
    assert not figures["faults"], "what was received is wrong"


def _silent(what: str, done: int, of: int) -> None:
    """Nobody looks."""


if __name__ == "__main__":
    sys.exit(main())
