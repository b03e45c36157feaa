"""The moments in a session's making and ending that only an exact order of events shows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from protocol.ids import UserId
from server.session.directory import SessionDirectory
from server.session.errors import SessionUnavailable
from server.session.user_session import UserSession
from storage.loading import UserRows, ensure_users, load
from storage.source_configs import DefaultRow
from tests.session.conftest import ALICE, Listener, Replica, World
from tests.session.providers import STAGE, Gate, Stage

Ensure = Callable[[UserId], Awaitable[UserRows]]
"""Of one user: these directories have no other."""


@asynccontextmanager
async def directory_of(
    replica: Replica, ensure: Ensure, save: Callable[[UserSession], Awaitable[None]] | None = None
) -> AsyncGenerator[SessionDirectory]:
    """A directory over a replica's database whose creations the test can hold up."""

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
