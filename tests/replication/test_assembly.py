"""Replicas that know of each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

import orjson
import pytest
from anyio import create_task_group
from anyio.abc import TaskGroup

from protocol.ids import ReplicaId, UserId
from server.replication.assembly import Assembly, AssemblyOptions
from server.replication.memory import MemoryBus, MemoryHub
from tests.support.clock import TestClock

ALICE = UserId("alice")
OPTIONS = AssemblyOptions()


@dataclass
class Member:
    """A replica that has nothing but its name and a number."""

    name: ReplicaId
    bus: MemoryBus
    assembly: Assembly


@dataclass
class House:
    """Members on one bus."""

    clock: TestClock
    group: TaskGroup
    hub: MemoryHub = field(default_factory=MemoryHub)

    async def member(
        self, name: str, connections: int = 0, look_up: Callable[[UserId], Mapping[str, object]] | None = None
    ) -> Member:
        """Comes in, and is heard of."""
        bus = MemoryBus(self.hub, replica=ReplicaId(name))
        assembly = Assembly(
            bus,
            ReplicaId(name),
            self.clock,
            figures=lambda: {"connections": connections},
            look_up=look_up or (lambda user: {"replica": name, "user": user}),
        )
        await self.group.start(bus.run, _ignore, _ignore)
        member = Member(ReplicaId(name), bus, assembly)
        self.group.start_soon(assembly.run)
        await self.clock.advance(OPTIONS.here_every_s)
        return member


@pytest.fixture
async def house(clock: TestClock) -> AsyncGenerator[House]:
    async with create_task_group() as group:
        yield House(clock, group)
        group.cancel_scope.cancel()


async def test_figures_of_all_replicas_are_added_up(house: House) -> None:
    one, _, _ = await house.member("one", 3), await house.member("two", 4), await house.member("three", 5)
    assert one.assembly.total({"connections": 3}) == {"replicas": 3, "connections": 12}


async def test_who_was_not_heard_of_lately_is_not_counted(house: House) -> None:
    one, two = await house.member("one", 3), await house.member("two", 4)
    two.bus.cut()
    await house.clock.advance(OPTIONS.fresh_s + 1)
    assert one.assembly.total({"connections": 3}) == {"replicas": 1, "connections": 3}


async def test_who_says_goodbye_is_missed_by_nobody(house: House) -> None:
    one, two = await house.member("one"), await house.member("two")
    two.assembly.leave()
    await house.clock.advance(0.1)
    assert one.assembly.total({}) == {"replicas": 1}
    assert await one.assembly.inspect(ALICE) == ([], [])


async def test_a_question_is_answered_by_all_the_others(house: House) -> None:
    one, _, _ = await house.member("one"), await house.member("two"), await house.member("three")
    views, unreachable = await one.assembly.inspect(ALICE)
    assert sorted(str(view["replica"]) for view in views) == ["three", "two"]
    assert {view["user"] for view in views} == {ALICE}
    assert unreachable == []


async def test_who_does_not_answer_is_named_after_a_moment(house: House) -> None:
    one, two, _ = await house.member("one"), await house.member("two"), await house.member("three")
    two.bus.cut()
    found: list[tuple[list[Mapping[str, object]], list[str]]] = []

    async def ask() -> None:
        found.append(await one.assembly.inspect(ALICE))

    house.group.start_soon(ask)
    await house.clock.advance(OPTIONS.answer_s + 0.1)
    ((views, unreachable),) = found
    assert [view["replica"] for view in views] == ["three"]
    assert unreachable == ["two"]


async def test_a_replica_that_cannot_answer_counts_as_unreachable_and_goes_on(house: House) -> None:
    def broken(user: UserId) -> Mapping[str, object]:
        raise RuntimeError("broken on purpose")

    one, _ = await house.member("one"), await house.member("two", 4, look_up=broken)
    found: list[tuple[list[Mapping[str, object]], list[str]]] = []

    async def ask() -> None:
        found.append(await one.assembly.inspect(ALICE))

    house.group.start_soon(ask)
    await house.clock.advance(OPTIONS.answer_s + 0.1)
    assert found == [([], ["two"])]
    assert one.assembly.total({}) == {"replicas": 2, "connections": 4}


@pytest.mark.parametrize(
    "word",
    [
        b"{",
        b"{}",
        b"[1]",
        b'{"is":"here","from":"x"}',
        b'{"is":"here","from":"x","figures":3}',
        b'{"is":"answer","from":"two","number":99,"view":{}}',
        b'{"is":"answer","from":"two","number":"x","view":{}}',
        b'{"is":"question","from":"two","number":1}',
        orjson.dumps({"is": "here", "from": "x" * 200, "figures": {}}),
    ],
)
async def test_words_that_make_no_sense_change_nothing(house: House, word: bytes) -> None:
    one, two = await house.member("one", 1), await house.member("two", 1)
    two.bus.tell(word)
    await house.clock.advance(0.1)
    assert one.assembly.total({"connections": 1}) == {"replicas": 2, "connections": 2}


def _ignore(_: object) -> None:
    """Hints and health are not what is looked at here."""
