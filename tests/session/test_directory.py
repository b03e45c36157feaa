"""The moments in a session's making and ending that only an exact order of events shows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from protocol.ids import UserId
from server.session.creating import Load
from server.session.directory import SessionDirectory
from server.session.errors import SessionError, SessionUnavailable
from server.session.user_session import UserSession
from storage.errors import StorageUnavailable
from storage.loading import UserRows, ensure_users, load
from storage.source_configs import DefaultRow
from tests.session.conftest import ALICE, BOB, Listener, Replica, World
from tests.session.providers import STAGE, Gate, Stage

Ensure = Callable[[UserId], Awaitable[UserRows]]
"""Of one user: these directories have no other."""


@asynccontextmanager
async def directory_of(
    replica: Replica,
    ensure: Ensure,
    save: Callable[[UserSession], Awaitable[None]] | None = None,
    load_all: Load | None = None,
) -> AsyncGenerator[SessionDirectory]:
    """A directory over a replica's database whose creations the test can hold up."""

    async def nobody_was_here(users: Sequence[UserId]) -> dict[UserId, UserRows]:
        return {user: UserRows(user) for user in users}

    async def ensure_all(users: Sequence[UserId]) -> dict[UserId, UserRows]:
        return {user: await ensure(user) for user in users}

    async def read(user: UserId) -> None:
        session = directory.get(user)
        assert session is not None
        session.apply_rows((await load(replica.database, [user]))[user])

    async def save_nothing(session: UserSession) -> None:
        return

    async with anyio.create_task_group() as group:
        directory = SessionDirectory(
            group=group,
            bus=replica.bus,
            parts=replica.manager.parts,
            load=load_all or nobody_was_here,
            ensure=ensure_all,
            read=read,
            save=save or save_nothing,
        )
        yield directory
        await directory.aclose()


async def test_a_write_between_the_snapshot_and_the_session_is_in_the_finished_session(
    world: World,
) -> None:
    replica = await world.replica(Stage())
    gate = Gate()

    async def read_and_stand(user: UserId) -> UserRows:
        rows = await ensure_users(replica.database, [user], [DefaultRow(STAGE, True, {})])
        await gate.pass_()
        return rows[user]

    got: list[UserSession] = []
    async with directory_of(replica, read_and_stand) as directory, anyio.create_task_group() as group:

        async def create() -> None:
            got.append(await directory.get_or_create(ALICE))
            assert got[0].source_view(STAGE).config == {"text": "later"}

        group.start_soon(create)
        await gate.arrived.wait()
        await replica.sources.patch(ALICE, STAGE, config={"text": "later"})
        directory.note(ALICE, 2)  # as the bus, or the writer itself, says
        gate.open()
    assert got[0].seq == 2


async def test_a_creation_that_fails_on_a_bug_leaves_no_half_session_and_hangs_nobody(
    world: World,
) -> None:
    replica = await world.replica(Stage())

    async def nonsense(user: UserId) -> UserRows:
        rows = UserRows(user, seq=1, exists=True)
        rows.configs = None  # pyright: ignore[reportAttributeAccessIssue] -- what a bug would bring
        return rows

    async with directory_of(replica, nonsense) as directory:
        for _ in range(2):
            with pytest.raises(SessionUnavailable):
                await directory.get_or_create(ALICE)
        assert directory.get(ALICE) is None
        assert directory.statistics().failed == 2


async def test_who_follows_a_session_is_told_of_its_end_before_anything_is_saved(world: World) -> None:
    replica = await world.replica(Stage())
    gate = Gate()

    async def ensure(user: UserId) -> UserRows:
        return (await ensure_users(replica.database, [user], [DefaultRow(STAGE, True, {})]))[user]

    async def slow(session: UserSession) -> None:
        await gate.pass_()

    async with directory_of(replica, ensure, slow) as directory:
        session = await directory.get_or_create(ALICE)
        listener = Listener()
        session.attach(listener)
        ended = directory.end(session, "removed")
        assert listener.closed == ["removed"]
        assert directory.get(ALICE) is None
        await gate.arrived.wait()
        assert not ended.is_set()
        gate.open()
        await directory.remove(ALICE, "removed")
        assert ended.is_set()


async def test_a_source_that_is_built_while_its_session_ends_is_closed_with_it(world: World) -> None:
    building, saving = Gate(), Gate()
    stage = Stage(on_build=lambda _: building.pass_())
    replica = await world.replica(stage)

    async def ensure(user: UserId) -> UserRows:
        return (await ensure_users(replica.database, [user], [DefaultRow(STAGE, True, {})]))[user]

    async def slow(session: UserSession) -> None:
        await saving.pass_()

    async with directory_of(replica, ensure, slow) as directory:
        session = await directory.get_or_create(ALICE)
        session.dirty = True
        directory.end(session, "removed")
        await saving.arrived.wait()
        building.open()
        await world.quiet()
        assert len(stage.made) == 1
        saving.open()
        await directory.remove(ALICE, "removed")
    assert stage.made[0].closed


async def test_who_has_been_here_before_does_not_wait_for_what_is_written_for_new_users(
    world: World,
) -> None:
    replica = await world.replica(Stage())
    await ensure_users(replica.database, [ALICE], [DefaultRow(STAGE, True, {})])
    gate = Gate()
    refused: list[UserId] = []

    async def read(users: Sequence[UserId]) -> dict[UserId, UserRows]:
        return await load(replica.database, users)

    async def give(user: UserId) -> UserRows:
        await gate.pass_()
        raise StorageUnavailable("none", "locked")

    async with directory_of(replica, give, load_all=read) as directory, anyio.create_task_group() as group:

        async def be_new() -> None:
            with pytest.raises(SessionUnavailable):
                await directory.get_or_create(BOB)
            refused.append(BOB)

        group.start_soon(be_new)
        await anyio.lowlevel.checkpoint()
        session = await directory.get_or_create(ALICE)
        await gate.arrived.wait()
        assert not session.closed
        assert refused == []
        gate.open()
    assert refused == [BOB]


async def test_when_the_store_fails_some_those_behind_them_are_told_at_once(world: World) -> None:
    replica = await world.replica(Stage())
    gate, told, reads = Gate(), [0], [0]

    async def read(users: Sequence[UserId]) -> dict[UserId, UserRows]:
        reads[0] += 1
        await gate.pass_()
        raise StorageUnavailable("none", "no answer")

    async def never(user: UserId) -> UserRows:
        raise AssertionError("nobody gets that far")

    def hear(found: UserSession | SessionError) -> None:
        assert isinstance(found, SessionUnavailable)
        told[0] += 1

    async with directory_of(replica, never, load_all=read) as directory:
        for number in range(1000):
            directory.prepare(UserId(f"user-{number}"), hear)
        await gate.arrived.wait()
        gate.open()
        with anyio.fail_after(20.0):
            while told[0] < 1000:
                await anyio.lowlevel.checkpoint()
        # Two at a time, of ten in all.
        assert reads[0] <= 2
        assert replica.bus.statistics().watched == 0
        # And who comes after that is tried anew.
        with pytest.raises(SessionUnavailable):
            await directory.get_or_create(ALICE)
        assert reads[0] == 3


async def test_a_session_that_ends_before_it_is_given_is_watched_no_more(world: World) -> None:
    gate = Gate()
    replica = await world.replica(Stage(on_build=lambda _: gate.pass_()))
    found: list[UserSession | SessionError] = []

    async def ensure(user: UserId) -> UserRows:
        return (await ensure_users(replica.database, [user], [DefaultRow(STAGE, True, {})]))[user]

    async with directory_of(replica, ensure) as directory:
        directory.prepare(ALICE, found.append)
        await gate.arrived.wait()
        session = directory.get(ALICE)
        assert session is not None
        ended = directory.end(session, "removed")
        gate.open()
        await ended.wait()
        await world.eventually(lambda: bool(found))
        assert replica.bus.statistics().watched == 0


async def test_once_the_store_is_back_who_comes_is_not_refused_for_those_before(world: World) -> None:
    replica = await world.replica(Stage())
    gate, reads, refused = Gate(), [0], [0]
    made: list[UserSession] = []

    async def read(users: Sequence[UserId]) -> dict[UserId, UserRows]:
        reads[0] += 1
        if reads[0] <= 2:
            await gate.pass_()
            raise StorageUnavailable("none", "no answer")
        return {user: UserRows(user, seq=1, exists=True, defaults_given=True) for user in users}

    async def never(user: UserId) -> UserRows:
        raise AssertionError("nobody is new")

    def come(number: int) -> None:
        directory.prepare(UserId(f"user-{number}"), hear)

    def hear(found: UserSession | SessionError) -> None:
        if isinstance(found, UserSession):
            made.append(found)
            return
        refused[0] += 1
        if refused[0] < 2000:
            come(1000 + refused[0])

    async with directory_of(replica, never, load_all=read) as directory:
        for number in range(1000):
            come(number)
        await gate.arrived.wait()
        gate.open()
        with anyio.fail_after(20.0):
            while len(made) < 1000:
                await anyio.lowlevel.checkpoint()
        # Those who were there, and a batch that came between the two reads that failed.
        assert refused[0] <= 1100
