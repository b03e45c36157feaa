"""What is compared with the least that would do the same: fan-out and own feeds, in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep
from typing import Final

from server.build_native import build
from server.sources.synthetic import SYNTHETIC_ID
from tests.bench.baselines import bare_loop, c_loop, compiler
from tests.bench.size import Size
from tests.bench.table import Table, Wanted, at_most
from tests.load.fleet import Fleet, Plan, fleet
from tests.load.target import Place, cost_of, own_server

__all__ = ["BARE_US", "bare_update_us", "fan_out", "own_feeds"]

BARE_US: Final = 16.0
"""What an update of the bare loop costs on the machine that the targets were set for."""

_FRAME: Final = 512
_WARM_S: Final = 1.0
# Few: what they get is not among the messages that are counted.
_SAMPLE: Final = 5


@dataclass(frozen=True)
class _Cpu:
    """Microseconds of CPU for each message that a client received whole, and of them in user space."""

    total: float
    user: float


def fan_out(table: Table, size: Size) -> None:
    """One feed to 1,000 sockets, 512 B, 20 changes a second."""
    count, rate = size.of(1000, least=500), 20.0
    config = {"items": 8, "bytes": 170, "ratePerS": rate}
    with ExitStack() as stack:
        ours = _watched_server(stack, config, {})
        native = _with_native_loop(stack, config)
        # All servers are read by the same client, which counts; the sample beside it looks at what comes.
        watching = Plan(connections=count, prefix="w", watch="star0", counts_only=True)
        counted = Plan(connections=count, counts_only=True)
        bare = stack.enter_context(bare_loop("fanout", str(rate), str(_FRAME)))
        floor = stack.enter_context(c_loop(str(rate), str(_FRAME))) if compiler() else None
        places: list[tuple[Place, Plan]] = [(ours, watching), (bare, counted)]
        places += [(floor, counted)] if floor is not None else []
        places += [(native, watching)] if native is not None else []
        found = _in_turns(
            size.turns, [partial(_per_delivery, place, plan, size.s(5)) for place, plan in places]
        )
    names = ["Freya", "bare uvloop loop", "C epoll loop", "Freya with the native loop"]
    _tell(table, "fan-out", "a delivery", names, found)
    _ratio(
        table, "fan-out", "Freya", "bare uvloop loop", [(turn[0], turn[1]) for turn in found], at_most(1.2)
    )
    if floor is None:
        table.note("There is no C compiler: the C loop is left out, and so is the native one.")
    else:
        _ratio(table, "fan-out", "Freya", "C epoll loop", [(turn[0], turn[2]) for turn in found], None)
    if native is not None:
        pairs = [(turn[3], turn[2]) for turn in found]
        _ratio(table, "fan-out", "Freya with the native loop", "C epoll loop", pairs, at_most(1.15))


def own_feeds(table: Table, size: Size) -> None:
    """1,000 users, each with a feed of 8 items of which one changes, twice a second."""
    count, rate = size.of(1000), 2.0
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
        measure = [lambda: _cost(ours, users, size.s(10)), lambda: _cost(bare, counted, size.s(10))]
        found = _in_turns(size.turns, measure)
    _tell(table, "own feeds", "an update", ["Freya", "bare encode, diff and write"], found)
    _ratio(
        table,
        "own feeds",
        "Freya",
        "bare loop",
        [(turn[0], turn[1]) for turn in found],
        at_most(60 / BARE_US),
    )
    ours_us = median(turn[0].total for turn in found)
    table.tell("own feeds", "Freya, CPU of an update", ours_us, "us", at_most(60))


def bare_update_us(size: Size) -> float:
    """The CPU of one update of the bare loop: the unit in which machines of different speed can be compared.
    Where the targets were set, it is `BARE_US`."""
    count, rate = 1000, 2.0  # never fewer: it would be the turns of the loop that one measures
    with (
        bare_loop("own", str(rate)) as bare,
        fleet(bare, Plan(connections=count, counts_only=True), _silent) as counted,
    ):
        counted.connect()
        sleep(_WARM_S)
        return _cost(bare, counted, size.s(5)).total


def _watched_server(stack: ExitStack, config: Mapping[str, object], settings: Mapping[str, str]) -> Place:
    """A server of ours on which one feed changes, and a few watch it and look at everything they get."""
    ours = stack.enter_context(own_server(settings))
    owner = stack.enter_context(fleet(ours, Plan(connections=1, prefix="star", config=config), _silent))
    owner.connect()
    owner.tell("put", config=config, sourceId=SYNTHETIC_ID)
    _samples(stack, ours, config)
    return ours


def _with_native_loop(stack: ExitStack, config: Mapping[str, object]) -> Place | None:
    """The same, with the loop in C; None where there is no compiler for it."""
    if compiler() is None:
        return None
    library = Path(stack.enter_context(TemporaryDirectory(prefix="freya-bench-"))) / "fanout_loop.so"
    build(library)
    return _watched_server(stack, config, {"FREYA_NATIVE_FANOUT": str(library)})


def _samples(stack: ExitStack, ours: Place, config: Mapping[str, object]) -> None:
    """A few of the watchers hold everything they receive against what was published, until the end."""
    plan = Plan(connections=_SAMPLE, prefix="s", config={**config, "seed": 0}, watch="star0")
    sample = stack.enter_context(fleet(ours, plan, _silent))
    sample.connect()

    def look() -> None:
        figures = sample.figures()
        assert figures.deltas, "nothing was delivered"
        assert not figures.faults, "what was received is wrong"
        assert not figures.lost, f"watchers were lost: {sample.tell('lost', patienceS=0.1)}"

    stack.callback(look)


def _in_turns(turns: int, measure: Sequence[Callable[[], _Cpu]]) -> list[list[_Cpu]]:
    """Each of them once a turn; who begins changes from turn to turn."""
    found: list[list[_Cpu]] = []
    for turn in range(turns):
        order = sorted(range(len(measure)), key=lambda place: (place + turn) % len(measure))
        by_place = {place: measure[place]() for place in order}
        found.append([by_place[place] for place in range(len(measure))])
    return found


def _tell(table: Table, of: str, unit: str, names: Sequence[str], found: list[list[_Cpu]]) -> None:
    for place in range(len(found[0])):
        table.tell(of, f"{names[place]}, CPU of {unit}", median(turn[place].total for turn in found), "us")
        table.tell(of, f"{names[place]}, of it user", median(turn[place].user for turn in found), "us")


def _ratio(
    table: Table, of: str, ours: str, other: str, pairs: Sequence[tuple[_Cpu, _Cpu]], wanted: Wanted | None
) -> None:
    ratios = [one.total / two.total for one, two in pairs]
    table.tell(of, f"{ours}, ratio to the {other}", median(ratios), "", wanted)
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    user = ", ".join(f"{one.user - two.user:+.2f}" for one, two in pairs)
    table.note(f"{of}, {ours} to the {other}: the turns' ratios were {each}; user CPU differed by {user} us.")


def _per_delivery(place: Place, plan: Plan, seconds: float) -> _Cpu:
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
    assert count, "nothing was delivered"
    total = ended.cpu_s - began.cpu_s
    return _Cpu(total / count * 1e6, total * ended.user_share(began) / count * 1e6)


def _silent(what: str, done: int, of: int) -> None:
    """Nobody looks."""
