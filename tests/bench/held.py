"""What has a figure of its own to hold: idle connections, storms, slow sockets, age of state."""

from __future__ import annotations

from collections.abc import Mapping
from time import sleep

from tests.bench.compared import BARE_US, bare_update_us
from tests.bench.size import Size
from tests.bench.table import Table, at_least, at_most
from tests.load.fleet import Plan, fleet
from tests.load.scenarios import SCENARIOS, Options
from tests.load.target import Place, cost_of, own_server

__all__ = ["age", "check", "idle", "slow", "storm"]

_WARM_S = 1.0
_HEARTBEAT_S = 25.0
_KNEE_MS = 50.0
_TRIES = 2
_PUSHED = 0.95
"""The share of what is due that must have been pushed one by one: whoever can't keep up conflates."""


def idle(table: Table, size: Size) -> None:
    """10,000 connections, and 10,000 users with a session, that do nothing."""
    count = size.of(10_000)
    with own_server() as ours:
        _bare_connections(table, ours, count, size.s(30))
    with own_server() as ours:
        _warm_up(ours)
        result = SCENARIOS["idle"](ours, Options(connections=count, seconds=size.s(30)))
        check(result.figures)
        of = f"idle, {count:,} users"
        held = result.figures["rss_kib_per_user"]
        table.tell(of, "resident memory of a user with session and 8 items", held, "KiB", at_most(24))
        table.tell(of, "CPU with heartbeats", result.figures["cpu_percent"], "%", at_most(5))


def storm(table: Table, size: Size) -> None:
    """5,000 users come back at once: to a server that knows nobody, to their sessions, with cursors."""
    count = size.of(5000)
    for warm, wanted in (("cold", 2000), ("sessions", 4000), ("cursors", 4000)):
        bare_us = bare_update_us(size)
        with own_server() as ours:
            figures = SCENARIOS["storm"](ours, Options(connections=count, warm=warm)).figures
        check(figures)
        of = f"storm, {count:,} users, {warm}"
        table.tell(of, "users let in", figures["users_per_s"], "1/s", at_least(wanted))
        per_cpu_s = figures["users_per_cpu_s"]
        table.tell(of, "users let in by a second of the server's CPU", per_cpu_s)
        table.tell(
            of,
            "CPU of a user, in updates of the bare loop",
            1e6 / per_cpu_s / bare_us,
            "",
            at_most(1e6 / wanted / BARE_US),
        )
        table.tell(of, "p99 from TCP connect to state", figures["connect_p99_ms"], "ms")


def slow(table: Table, size: Size) -> None:
    """2,000 sockets at 10 updates a second, of which 10 % stop reading for a minute."""
    count = size.of(2000)
    with own_server() as ours:
        options = Options(connections=count, rate_per_s=10.0, seconds=size.s(60))
        figures = SCENARIOS["slow"](ours, options).figures
    of = f"slow, {figures['stalled']:,.0f} of {count:,} stalled"
    table.tell(of, "memory held for a stalled socket", figures["rss_kib_per_stalled"], "KiB", at_most(64))
    table.tell(of, "sockets lost", figures["lost"], "", at_most(0))
    table.tell(
        of, "p99 of the others, to that without stalls", figures["latency_p99_ratio"], "", at_most(1.5)
    )


def age(table: Table, size: Size) -> None:
    """Age of state at the client, by updates a second, until the 99th percentile passes 50 ms or updates are
    conflated: the knee. Each rate is tried twice: what else runs on the machine only ever adds to an age."""
    count = size.of(5000)
    knee = 0.0
    for rate in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0):
        figures = min((_aged(count, rate, size) for _ in range(_TRIES)), key=lambda one: one["age_p99_ms"])
        of = f"{count:,} users, {rate * count:,.0f} updates a second"
        wanted = at_most(10) if rate == 1.0 else None
        table.tell(of, "p99 age of state", figures["age_p99_ms"], "ms", wanted)
        table.tell(of, "p99 by which the driver itself was late", figures["driver_late_p99_ms"], "ms")
        table.tell(of, "CPU of the server", figures["cpu_percent"], "%")
        table.tell(of, "updates delivered", figures["deliveries_per_s"], "1/s")
        if figures["age_p99_ms"] > _KNEE_MS or figures["deliveries_per_s"] < _PUSHED * rate * count:
            break
        knee = rate * count
        if size.count < 1:
            break  # where the knee is says nothing at this size
    table.tell("knee", f"most updates a second with p99 age under {_KNEE_MS:g} ms", knee, "1/s")


def _aged(count: int, rate: float, size: Size) -> Mapping[str, float]:
    with own_server() as ours:
        options = Options(connections=count, rate_per_s=rate, seconds=size.s(15))
        figures = SCENARIOS["steady"](ours, options).figures
    check(figures)
    return figures


def check(figures: Mapping[str, float]) -> None:
    """Throughput without correctness does not count."""
    assert not figures["missing"], "a client has not what was published"
    assert not figures["faults"], "what was received is wrong"


def _bare_connections(table: Table, ours: Place, count: int, seconds: float) -> None:
    assert ours.pid is not None
    _warm_up(ours)
    before = cost_of(ours.pid).rss
    with fleet(ours, Plan(connections=count, prefix="c", counts_only=True), _silent) as connections:
        connections.connect(query="own=0")
        assert not connections.problems, connections.problems
        sleep(_WARM_S)
        after = cost_of(ours.pid).rss
        of = f"idle, {count:,} connections"
        table.tell(of, "resident memory of a connection", (after - before) / 1024 / count, "KiB", at_most(3))
        began = cost_of(ours.pid)
        sleep(seconds)
        ended = cost_of(ours.pid)
        share = 100 * (ended.cpu_s - began.cpu_s) / (ended.at - began.at)
        table.tell(of, f"CPU with heartbeats ({_HEARTBEAT_S:g} s)", share, "%", at_most(5))
        assert not connections.figures().lost, "a connection was lost"


def _warm_up(place: Place) -> None:
    """What is made once, for the first of its kind, is not to be counted."""
    with fleet(place, Plan(connections=200, prefix="first", counts_only=True), _silent) as clients:
        clients.connect(query="own=0")
    sleep(_WARM_S)


def _silent(what: str, done: int, of: int) -> None:
    """Nobody looks."""
