"""Two things at once: whatever their order, the session ends equal to the row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from protocol.ids import UserId
from server.session.options import SessionOptions
from server.session.user_session import UserSession
from storage import source_configs
from storage.database import WriteTx
from tests.session.conftest import ALICE, Replica, World, texts
from tests.session.providers import STAGE, Built, Gate, Password, Stage

PATIENT = SessionOptions(build_patience_s=60.0, settle_s=60.0, build_timeout_s=600.0)


def gated(gates: dict[str, Gate]) -> Callable[[Built], Awaitable[None]]:
    """Builds of the texts that have a gate wait before it."""

    async def wait(built: Built) -> None:
        gate = gates.get(built.config.text)
        if gate is not None:
            await gate.pass_()

    return wait


async def equals_the_row(replica: Replica, session: UserSession) -> None:
    """What runs is what the row says."""
    row = await source_configs.get(replica.database, ALICE, STAGE)
    view = session.source_view(STAGE)
    assert row is not None
    assert (view.version, view.enabled, view.config) == (row.version, row.enabled, row.config)
    assert session.runs_latest(STAGE) in ((True,) if row.enabled else (None,))
    if row.enabled:
        assert texts(session) == [row.config.get("text", "hello")]
    else:
        assert texts(session) == []


async def test_a_slow_old_build_never_overwrites_a_newer_one(world: World) -> None:
    gates = {"slow": Gate()}
    stage = Stage(on_build=gated(gates))
    replica = await world.replica(stage, defaults=[STAGE], options=PATIENT)
    session = await replica.session()
    async with anyio.create_task_group() as group:
        group.start_soon(_patch, replica, {"text": "slow"})
        await gates["slow"].arrived.wait()
        await replica.sources.patch(ALICE, STAGE, config={"text": "quick"})
        await world.eventually(lambda: texts(session) == ["quick"])
        gates["slow"].open()
    await world.advance(30.0)
    assert texts(session) == ["quick"]
    await equals_the_row(replica, session)


async def test_a_build_that_ignores_being_cancelled_is_thrown_away_when_it_is_done(world: World) -> None:
    gate = Gate()

    async def stubborn(built: Built) -> None:
        if built.config.text == "slow":
            with anyio.CancelScope(shield=True):
                await gate.pass_()

    stage = Stage(on_build=stubborn)
    replica = await world.replica(stage, defaults=[STAGE], options=PATIENT)
    session = await replica.session()
    async with anyio.create_task_group() as group:
        group.start_soon(_patch, replica, {"text": "slow"})
        await gate.arrived.wait()
        await replica.sources.patch(ALICE, STAGE, config={"text": "quick"})
        gate.open()
        await world.eventually(lambda: texts(session) == ["quick"])
    slow = [source for source in stage.made if source.built.config.text == "slow"]
    assert [source.closed for source in slow] == [True]
    await equals_the_row(replica, session)


async def _patch(replica: Replica, config: dict[str, Any]) -> None:
    await replica.sources.patch(ALICE, STAGE, config=config)


async def test_a_disable_during_the_first_build_leaves_the_source_off(world: World) -> None:
    gates = {"hello": Gate()}
    stage = Stage(on_build=gated(gates))
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.manager.get_or_create(ALICE)
    await gates["hello"].arrived.wait()
    await replica.sources.patch(ALICE, STAGE, enabled=False)
    gates["hello"].open()
    await world.advance(5.0)
    assert session.source_state(STAGE)["status"] == "off"
    assert session.history.current.state.pending == ()
    await equals_the_row(replica, session)


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_change_committed_while_a_creation_is_in_flight_is_in_the_finished_session(
    world: World, enabled: bool
) -> None:
    """The rows of the creation were read; before there is a session, the other replica writes."""
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE], options=PATIENT)
    other = await world.replica(Stage(), defaults=[STAGE])
    await other.session()
    gate = Gate()
    stage.on_build = lambda _: gate.pass_()
    got: list[UserSession] = []

    async def create() -> None:
        got.append(await replica.manager.get_or_create(ALICE))

    async with anyio.create_task_group() as group:
        group.start_soon(create)
        await gate.arrived.wait()
        stage.on_build = None
        await other.sources.patch(ALICE, STAGE, enabled=enabled, config={"text": "changed"})
        await world.eventually(lambda: bool(got), within_s=30.0)
        gate.open()
    (session,) = got
    await world.eventually(lambda: session.runs_latest(STAGE) is not False)
    await session.answered(5.0)
    await equals_the_row(replica, session)


async def test_a_write_of_this_replica_during_a_creation_is_in_the_finished_session(world: World) -> None:
    """The write falls between the creation's snapshot and its session."""
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    await replica.manager.remove(ALICE)
    got: list[UserSession] = []

    async def create() -> None:
        got.append(await replica.manager.get_or_create(ALICE))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(create)
            group.start_soon(_patch, replica, {"text": "changed"})
    assert len(set(map(id, got))) == 1
    await world.eventually(lambda: texts(got[0]) == ["changed"])
    await equals_the_row(replica, got[0])


Step = Callable[[Replica], Awaitable[object]]

STEPS: dict[str, Step] = {
    "put": lambda r: r.sources.put(ALICE, STAGE, enabled=True, config={"text": "put"}),
    "patch": lambda r: r.sources.patch(ALICE, STAGE, config={"text": "patched"}),
    "authorize": lambda r: r.sources.authorize(ALICE, STAGE, {"password": "hunter22"}),
    "disable": lambda r: r.sources.patch(ALICE, STAGE, enabled=False),
    "enable": lambda r: r.sources.patch(ALICE, STAGE, enabled=True),
    "replace": lambda r: r.providers.replace(STAGE, {"apiKey": "key-2"}),
    "verify": lambda r: r.sources.patch(ALICE, STAGE, config={"text": "verified"}, verify=True),
}


@pytest.mark.parametrize(
    "names",
    [
        ("put", "patch"),
        ("authorize", "disable"),
        ("replace", "patch"),
        ("replace", "disable", "enable"),
        ("put", "patch", "authorize", "replace", "verify", "disable", "enable"),
    ],
    ids="+".join,
)
async def test_writes_that_race_end_with_both_replicas_equal_to_the_row(
    world: World, names: tuple[str, ...]
) -> None:
    replicas = [await world.replica(Stage(), defaults=[STAGE], options=PATIENT) for _ in range(2)]
    sessions = [await replica.session() for replica in replicas]

    async def run(index: int, name: str) -> None:
        await STEPS[name](replicas[index % 2])

    for shift in (0, 1):
        async with anyio.create_task_group() as group:
            for index, name in enumerate(names):
                group.start_soon(run, index + shift, name)
    await world.advance(12.0)
    for replica, session in zip(replicas, sessions, strict=True):
        await equals_the_row(replica, session)
    assert sessions[0].history.current.state.digest == sessions[1].history.current.state.digest


async def test_credentials_given_while_the_source_is_being_disabled_are_stored_and_it_stays_off(
    world: World,
) -> None:
    gate = Gate()

    async def slow(_: Password) -> None:
        await gate.pass_()

    stage = Stage(on_validate=slow)
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    async with anyio.create_task_group() as group:
        group.start_soon(replica.sources.authorize, ALICE, STAGE, {"password": "hunter22"})
        await gate.arrived.wait()
        await replica.sources.patch(ALICE, STAGE, enabled=False)
        gate.open()
    assert session.source_state(STAGE)["status"] == "off"
    assert session.source_state(STAGE)["hasCredentials"] is True
    await equals_the_row(replica, session)


async def start_write(
    group: TaskGroup, replica: Replica, user: UserId, gate: Gate, scope: anyio.CancelScope
) -> None:
    """A write that stands inside its transaction until the gate opens, in a scope that can be cancelled."""

    async def fn(tx: WriteTx) -> None:
        await source_configs.put(tx, user, STAGE, True, {"text": "written"}, None)
        await gate.pass_()

    async def run() -> None:
        with scope:
            await replica.manager.write(user, fn)

    group.start_soon(run)
    await gate.arrived.wait()


async def test_a_write_that_is_cancelled_before_its_commit_writes_nothing(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        await start_write(group, replica, ALICE, Gate(), scope)
        scope.cancel()
    assert await replica.database.differing([(ALICE, session.seq)]) == []
    await replica.sources.patch(ALICE, STAGE, config={"text": "next"})  # the lock is free again


async def test_from_its_commit_on_a_cancelled_write_is_applied_and_announced_all_the_same(
    world: World,
) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    other = await world.replica(Stage(), defaults=[STAGE])
    session, mirror = await replica.session(), await other.session()
    scope = anyio.CancelScope()

    async def fn(tx: WriteTx) -> None:
        await source_configs.put(tx, ALICE, STAGE, True, {"text": "written"}, None)
        # The last thing before the COMMIT: the cancellation is there, and comes too late to be felt.
        group.start_soon(_cancel, scope)

    async with anyio.create_task_group() as group:
        with scope:
            await replica.manager.write(ALICE, fn)
            assert session.source_view(STAGE).config == {"text": "written"}
    assert session.seq == 2
    await world.eventually(lambda: mirror.seq == 2, within_s=1.0)
    await world.eventually(lambda: texts(mirror) == ["written"])


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()
