"""What the driver can do to a server, and what it measures meanwhile.

Every scenario ends with what it found: figures by name (which `--assert` speaks of) and series for the plots.
`missing` counts clients whose final state is not the published one, `faults` frames that were wrong.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from protocol.transport import MAX_HEARTBEAT_MS
from server.sources.synthetic import SYNTHETIC_ID
from tests.load.fleet import Figures, Fleet, Plan, fleet
from tests.load.target import Cost, Place, Watch, sibling

__all__ = ["SCENARIOS", "Options", "Result"]

_STAR: Final = "star"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    connections: int = 1000
    rate_per_s: float = 1.0
    seconds: float = 20.0
    items: int = 8
    text_bytes: int = 60
    processes: int = 1
    ramp_per_s: float = 0.0
    stalled: float = 0.1
    warm: str = "cold"
    at_once: int = 500
    core: int | None = 1
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None

    @property
    def config(self) -> dict[str, Any]:
        """The config of every feed's `freya.synthetic`, but for its seed."""
        return {"items": self.items, "bytes": self.text_bytes, "ratePerS": self.rate_per_s}


@dataclass
class Result:
    """What was found."""

    figures: dict[str, float] = field(default_factory=dict[str, float])
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])
    problems: list[str] = field(default_factory=list[str])


def steady(place: Place, options: Options) -> Result:
    """N users, each with a feed of its own in which R items change a second."""
    with _users(place, options) as users, _Measure(place) as measure:
        _prepare(users, options)
        return measure.run(users, options.seconds)


def fanout(place: Place, options: Options) -> Result:
    """One feed that changes R times a second, and N dashboards that watch it."""
    with _watchers(place, options) as watchers, _Measure(place) as measure:
        watchers.connect(per_s=options.ramp_per_s)
        return measure.run(watchers, options.seconds)


def idle(place: Place, options: Options) -> Result:
    """What N users cost while nothing happens: memory of each, and the CPU of their heartbeats."""
    quiet = replace(options, rate_per_s=0)
    with _users(place, quiet) as users, _Measure(place) as measure:
        before = measure.settled_rss()
        _prepare(users, quiet)
        after = measure.settled_rss()
        began = measure.cost()
        time.sleep(options.seconds)
        ended = measure.cost()
        result = Result()
        result.figures["rss_kib_per_user"] = round((after - before) / 1024 / options.connections, 2)
        result.figures["cpu_percent"] = round(100 * (ended.cpu_s - began.cpu_s) / (ended.at - began.at), 2)
        result.figures["missing"] = users.settle(time.time())
        measure.finish(users, result)
        return result


def storm(place: Place, options: Options) -> Result:
    """All N users are gone, and come back at once. `--warm`: `cold` (their rows are there, their sessions are
    not: another server on the same database), `sessions` (they still live), `cursors` (they do, and every
    client resumes)."""
    with _users(place, replace(options, rate_per_s=0)) as users:
        _prepare(users, replace(options, rate_per_s=0))
        users.tell("drop")
        if options.warm != "cold":
            return _come_back(place, users, options)
        with sibling(place) as other:
            users.tell("move", host=other.host, port=other.port)
            return _come_back(other, users, options)


def _come_back(place: Place, users: Fleet, options: Options) -> Result:
    with _Measure(place) as measure:
        measure.settled_rss()
        began = measure.cost()
        back = users.connect(resume=options.warm == "cursors", at_once=options.at_once)
        time.sleep(0.5)
        ended = measure.cost()
        result = Result(back.took.figures("connect"))
        result.figures["users_per_s"] = round(back.took.count / back.seconds, 1)
        result.figures["users_per_cpu_s"] = round(back.took.count / max(ended.cpu_s - began.cpu_s, 1e-9), 1)
        result.figures["missing"] = options.connections - back.took.count
        result.figures["missing"] += users.settle(time.time())
        measure.finish(users, result)
        return result


def slow(place: Place, options: Options) -> Result:
    """As `fanout`, but then a share of the dashboards reads nothing for the whole time, and then again. The
    latency is that of the others meanwhile."""
    with _watchers(place, options) as watchers, _Measure(place) as measure:
        # Who reads nothing answers no ping: where the kernel holds a minute of a small feed, they would be
        # closed as silent, which is another thing than slow.
        watchers.connect(per_s=options.ramp_per_s, query=f"&heartbeatMs={MAX_HEARTBEAT_MS}")
        plain = measure.run(watchers, options.seconds)
        before = measure.cost().rss
        stalled = sum(answer["stalled"] for answer in watchers.tell("stall", share=options.stalled))
        began, conflated = time.time(), watchers.figures().conflated
        time.sleep(options.seconds)
        held = measure.cost().rss - before
        others = watchers.figures().latency.total(began + 1, time.time() - 1)
        watchers.tell("resume")
        result = measure.run(watchers, max(2.0, options.seconds / 4))
        result.figures |= others.figures("latency")
        result.figures |= {
            "stalled": stalled,
            "conflated": watchers.figures().conflated - conflated,
            "rss_kib_per_stalled": round(held / 1024 / max(1, stalled), 2),
            "latency_p99_ratio": round(
                others.percentile_ms(99) / max(plain.figures["latency_p99_ms"], 0.001), 2
            ),
        }
        return result


def patch(place: Place, options: Options) -> Result:
    """As `steady`, and ten config patches a second for every hundred users, each checked to be stored."""
    with _users(place, options) as users, _Measure(place) as measure:
        _prepare(users, options)
        users.tell("put", config={}, sourceId="freya.reminders")
        per_s = max(1.0, options.connections / 10) / options.processes
        begin = time.time()
        answers = users.tell("patch", perS=per_s, seconds=options.seconds)
        result = measure.run(users, 2.0, begin)
        result.figures |= users.figures().patches.total().figures("patch")
        result.figures["patches"] = sum(answer["patches"] for answer in answers)
        result.figures["missing"] += sum(answer["lost"] for answer in answers)
        return result


def drain(place: Place, options: Options) -> Result:
    """The server is asked to end; every client must be sent away in order (1001)."""
    assert place.pid is not None, "drain ends the server: it needs one of its own"
    with _users(place, options) as users:
        _prepare(users, options)
        began = time.monotonic()
        os.kill(place.pid, signal.SIGTERM)
        reasons: dict[str, int] = {}
        for answer in users.tell("lost", patienceS=60.0):
            for reason, count in answer["reasons"].items():
                reasons[reason] = reasons.get(reason, 0) + count
        result = Result({"seconds": round(time.monotonic() - began, 2)})
        result.figures["sent_away"] = reasons.pop("1001", 0)
        result.figures["missing"] = sum(reasons.values())
        result.problems += [f"{count} ended with {reason}" for reason, count in reasons.items()]
        result.figures["faults"] = users.figures().faults
        return result


SCENARIOS: Final[Mapping[str, Callable[[Place, Options], Result]]] = {
    "steady": steady,
    "fanout": fanout,
    "storm": storm,
    "slow": slow,
    "patch": patch,
    "idle": idle,
    "drain": drain,
}


class _Measure:
    """The server's costs, and the clients' figures, over the same seconds."""

    def __init__(self, place: Place) -> None:
        self._watch = None if place.pid is None else Watch(place.pid)

    def __enter__(self) -> _Measure:
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.close()

    def cost(self) -> Cost:
        """What the server has used until now; nothing where it is elsewhere."""
        if self._watch is None:
            return Cost(time.time(), 0.0, 0.0, 0.0, 0)
        return self._watch.costs[-1]

    def settled_rss(self) -> int:
        """The resident size, once it has stopped moving."""
        last, same = self.cost().rss, 0
        deadline = time.monotonic() + 30
        while same < 4 and time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.cost().rss
            same = same + 1 if abs(now - last) < 1 << 18 else 0
            last = now
        return last

    def run(self, clients: Fleet, seconds: float, begin: float | None = None) -> Result:
        """Lets them go on for a while; then all must have what was due."""
        if begin is None:
            time.sleep(1.0)  # what the beginning cost is over
            begin = float(int(time.time()) + 1)
            time.sleep(max(0.0, begin - time.time()))
        first, before = self.cost(), clients.figures()
        time.sleep(seconds)
        last, after = self.cost(), clients.figures()
        result = Result()
        self._add_pace(result, first, last, before, after)
        result.figures |= after.latency.total(begin, time.time() - 1).figures("latency")
        result.figures |= after.age.total(begin, time.time() - 1).figures("age")
        late = after.late.total(begin, time.time() - 1)
        result.figures["driver_late_p99_ms"] = round(late.percentile_ms(99), 3)
        result.figures["driver_late_max_ms"] = round(late.max_ms, 3)
        result.figures["missing"] = clients.settle(time.time())
        self.finish(clients, result, begin)
        return result

    def finish(self, clients: Fleet, result: Result, begin: float = 0.0) -> None:
        """What every scenario tells."""
        figures = clients.figures()
        result.figures |= {
            "faults": figures.faults,
            "lost": figures.lost,
            "conflated": figures.conflated,
            "deltas": figures.deltas,
            "snapshots": figures.snapshots,
        }
        result.figures.setdefault("missing", len(clients.problems))
        result.problems += clients.problems
        for answer in clients.tell("figures"):
            # The same key as of other answers, so that they are in `problems` by now.
            result.problems += [text for text in answer["problems"] if text not in result.problems]
        self._add_series(result, figures, begin)

    def _add_pace(self, result: Result, first: Cost, last: Cost, before: Figures, after: Figures) -> None:
        deltas, seconds = after.deltas - before.deltas, last.at - first.at
        result.figures["deliveries_per_s"] = round(deltas / max(seconds, 1e-9), 1)
        if self._watch is not None and deltas:
            result.figures["cpu_us_per_delivery"] = round((last.cpu_s - first.cpu_s) / deltas * 1e6, 2)
            result.figures["user_us_per_delivery"] = round((last.user_s - first.user_s) / deltas * 1e6, 2)
            result.figures["cpu_percent"] = round(100 * (last.cpu_s - first.cpu_s) / seconds, 1)
            result.figures["rss_mib"] = round(last.rss / 1048576, 1)

    def _add_series(self, result: Result, figures: Figures, begin: float) -> None:
        seconds = sorted(second for second in figures.latency.seconds if second >= begin)
        start = seconds[0] if seconds else (self._watch.costs[0].at if self._watch else 0.0)
        for name, timeline in (("latency", figures.latency), ("age", figures.age)):
            for percent in (50, 99):
                result.series[f"{name}_p{percent}_ms"] = [
                    (second - start, timeline.seconds[second].percentile_ms(percent))
                    for second in seconds
                    if second in timeline.seconds
                ]
        result.series["deliveries_per_s"] = [
            (second - start, figures.age.seconds[second].count)
            for second in seconds[1:-1]
            if second in figures.age.seconds
        ]
        costs = [] if self._watch is None else [cost for cost in self._watch.costs if cost.at >= begin]
        result.series["cpu_percent"] = [
            (now.at - start, 100 * (now.cpu_s - was.cpu_s) / (now.at - was.at))
            for was, now in zip(costs, costs[2:], strict=False)
        ]
        result.series["rss_mib"] = [(cost.at - start, cost.rss / 1048576) for cost in costs]


@contextmanager
def _users(place: Place, options: Options) -> Generator[Fleet]:
    plan = Plan(
        connections=options.connections,
        prefix=f"u{secrets.token_hex(3)}-",
        config=options.config,
        processes=options.processes,
        core=options.core,
    )
    with fleet(place, plan, options.progress) as users:
        yield users


@contextmanager
def _watchers(place: Place, options: Options) -> Generator[Fleet]:
    """Clients that are to follow the one feed of an owner who is there, and changes it."""
    prefix = f"f{secrets.token_hex(3)}-"
    owner = Plan(connections=1, prefix=f"{prefix}{_STAR}", config=options.config, core=options.core)
    with fleet(place, owner, options.progress) as owners:
        _prepare(owners, options)
        watching = Plan(
            connections=options.connections,
            prefix=f"{prefix}w",
            config={**options.config, "seed": 0},  # the owner is client number 0, and so is its seed
            watch=f"{prefix}{_STAR}0",
            processes=options.processes,
            core=options.core,
        )
        with fleet(place, watching, options.progress) as watchers:
            yield watchers


def _prepare(users: Fleet, options: Options) -> None:
    """Everybody is there, and everybody's feed changes."""
    users.connect(per_s=options.ramp_per_s)
    users.tell("put", config=options.config, sourceId=SYNTHETIC_ID)
