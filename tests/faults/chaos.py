"""A run: rounds of writing while things break, each ended by quiet, in which everybody must come to agree."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from time import monotonic

import anyio

from protocol.ids import UserId
from tests.faults.faults import FAULTS, OF_THE_BUS
from tests.faults.oracle import Oracle, Violation
from tests.faults.people import Follower, Writer
from tests.faults.stored import check_stored
from tests.faults.town import Town

__all__ = ["Plan", "Report", "run"]

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how hard. The same seed chooses the same faults and the same writes."""

    seed: int
    rounds: int
    faults_each: int
    lasts_s: float
    """How long those faults last that do."""
    kinds: tuple[str, ...] = tuple(FAULTS)
    users: int = 6
    followers_each: int = 2
    patience_s: float = 10.0
    """After the last fault and the last write of a round everybody agrees within this,"""
    bus_up_patience_s: float = 2.0
    """and within this where none of its faults was one of the bus."""


@dataclass(slots=True)
class Report:
    """What was done, and how it went."""

    faults: Counter[str] = field(default_factory=Counter[str])
    convergences_s: list[float] = field(default_factory=list[float])
    operations: int = 0
    frames: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} x {name}" for name, count in sorted(self.faults.items()))
        slowest = max(self.convergences_s, default=0.0)
        return (
            f"{self.operations} acknowledged writes, {self.frames} frames seen, "
            f"{self.faults.total()} faults ({kinds}); longest time from the last fault to agreement, "
            f"the writes still under way included: {slowest:.2f} s"
        )


async def run(town: Town, plan: Plan) -> Report:
    """Does it all. Raises Violation with what went wrong, and with what to call to see it again."""
    chaos = _Chaos(town, plan)
    try:
        return await chaos.run()
    except BaseException:
        print(f"seed {plan.seed}: {chaos.report}\nlast: {chaos.journal[-12:]}", file=sys.stderr)
        raise


class _Chaos:
    def __init__(self, town: Town, plan: Plan) -> None:
        self.report = Report()
        self.journal: list[str] = []
        self._town = town
        self._plan = plan
        self._rng = Random(plan.seed)
        self._oracle = oracle = Oracle()
        users = [UserId(f"user-{number}") for number in range(plan.users)]
        self._writers = [Writer(town, oracle, user, Random(f"{plan.seed} {user}")) for user in users]
        self._followers = [
            Follower(town, oracle, user, f"{user}.{number}", Random(f"{plan.seed} {user} {number}"))
            for user in users
            for number in range(plan.followers_each)
        ]

    async def run(self) -> Report:
        async with anyio.create_task_group() as group:
            for person in (*self._followers, *self._writers):
                group.start_soon(person.run)
            for _ in range(self._plan.rounds):
                await self._round()
            group.cancel_scope.cancel()
        return self.report

    async def _round(self) -> None:
        for writer in self._writers:
            writer.resume()
        names = self._rng.sample(self._plan.kinds, k=self._plan.faults_each)
        bus_up = OF_THE_BUS.isdisjoint(names)
        for name in names:
            self.journal.append(name)
            await anyio.sleep(self._rng.uniform(0.0, 1.0))
            await FAULTS[name](self._town, self._rng, self._plan.lasts_s)
            self.report.faults[name] += 1
        over = monotonic()
        for writer in self._writers:
            writer.rest()
        for writer in self._writers:
            with anyio.fail_after(60.0):
                await writer.idle.wait()
        await self._converge(self._plan.bus_up_patience_s if bus_up else self._plan.patience_s)
        self.report.convergences_s.append(monotonic() - over)
        await check_stored(self._town.database, self._oracle)
        self.report.operations, self.report.frames = self._oracle.operations, self._oracle.frames

    async def _converge(self, patience_s: float) -> None:
        began = monotonic()
        while wrong := self._differences():
            if monotonic() - began > patience_s:
                # A write that is not in the store is another thing than one that was not told.
                await check_stored(self._town.database, self._oracle)
                raise Violation(f"after {patience_s:g} s of quiet: " + "; ".join(wrong))
            await anyio.sleep(_LOOK_S)

    def _differences(self) -> list[str]:
        wrong: list[str] = []
        digests: dict[UserId, set[bytes]] = {}
        for follower in self._followers:
            if follower.broken is not None:
                raise follower.broken
            wrong += [f"{follower.name}: {one}" for one in follower.differences()]
            if follower.feed is not None and follower.feed.state is not None:
                digests.setdefault(follower.user, set()).add(follower.feed.state.digest)
        return wrong + [f"{user}: feeds differ" for user, found in digests.items() if len(found) > 1]
