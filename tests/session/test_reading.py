from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from protocol.ids import UserId
from server.engine.tasks import TaskScope
from server.session.reading import RowReader
from storage.errors import StorageUnavailable
from storage.loading import UserRows
from tests.session.conftest import ALICE, BOB


class Store:
    """Rows that rise by one with every read, handed out when the test says so."""

    def __init__(self) -> None:
        self.begun: list[UserId] = []
        self.running = 0
        self.most = 0
        self.applied: list[tuple[UserId, int]] = []
        self.away = False
        self.broken = False
        self._wake = anyio.Event()

    def answer(self) -> None:
        """Lets every read that is under way end."""
        self._wake.set()
        self._wake = anyio.Event()

    async def load(self, user: UserId) -> UserRows:
        self.begun.append(user)
        self.running += 1
        self.most = max(self.most, self.running)
        seq = len(self.begun)
        await self._wake.wait()
        self.running -= 1
        if self.away:
            raise StorageUnavailable("none", "away")
        return UserRows(user, seq=seq, exists=True)

    def apply(self, user: UserId, rows: UserRows) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        self.applied.append((user, rows.seq))


@asynccontextmanager
async def reading() -> AsyncGenerator[tuple[RowReader, Store]]:
    store = Store()
    async with anyio.create_task_group() as group:
        reader = RowReader(tasks=TaskScope(group), now=store.load, soon=store.load, apply=store.apply)
        yield reader, store
        group.cancel_scope.cancel()


async def test_reads_of_one_user_never_overlap_and_are_applied_in_order() -> None:
    async with reading() as (reader, store):
        done = [reader.request(ALICE)]
        await anyio.wait_all_tasks_blocked()
        done += [reader.request(ALICE) for _ in range(5)]
        for _ in range(2):
            store.answer()
            await anyio.wait_all_tasks_blocked()
        assert store.most == 1
        assert store.applied == [(ALICE, 1), (ALICE, 2)]
        assert all(each.is_set() for each in done)


async def test_who_asks_while_a_read_is_under_way_waits_for_the_next_one() -> None:
    async with reading() as (reader, store), anyio.create_task_group() as group:
        finished: list[str] = []

        async def ask(name: str) -> None:
            await reader.read(ALICE)
            finished.append(name)

        group.start_soon(ask, "first")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, "second")
        group.start_soon(ask, "third")
        await anyio.wait_all_tasks_blocked()
        store.answer()
        await anyio.wait_all_tasks_blocked()
        assert finished == ["first"]
        store.answer()
        await anyio.wait_all_tasks_blocked()
        assert sorted(finished) == ["first", "second", "third"]
        assert len(store.begun) == 2


async def test_users_do_not_wait_for_each_other() -> None:
    async with reading() as (reader, store):
        reader.request(ALICE)
        reader.request(BOB)
        await anyio.wait_all_tasks_blocked()
        assert store.running == 2


async def test_a_failed_read_is_told_to_all_who_wait_and_stays_owed_until_one_succeeds() -> None:
    async with reading() as (reader, store):
        store.away = True
        failures = 0

        async def ask() -> None:
            nonlocal failures
            with pytest.raises(StorageUnavailable):
                await reader.read(ALICE)
            failures += 1

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            store.answer()
        assert failures == 3
        assert reader.owed == {ALICE}
        store.away = False
        reader.request(ALICE)
        await anyio.wait_all_tasks_blocked()
        store.answer()
        await anyio.wait_all_tasks_blocked()
        assert reader.owed == set()


async def test_rows_that_cannot_be_applied_are_owed_and_hang_nobody() -> None:
    async with reading() as (reader, store):
        store.broken = True
        done = reader.request(ALICE)
        await anyio.wait_all_tasks_blocked()
        store.answer()
        await done.wait()
        assert reader.owed == {ALICE}


async def test_a_waiter_that_is_cancelled_does_not_take_the_read_along() -> None:
    async with reading() as (reader, store), anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(anyio.wait_all_tasks_blocked)
            scope.cancel()
            await reader.read(ALICE)
        await anyio.wait_all_tasks_blocked()
        store.answer()
        await anyio.wait_all_tasks_blocked()
        assert store.applied == [(ALICE, 1)]


async def test_at_the_end_nobody_is_left_waiting() -> None:
    store = Store()
    outcomes: list[str] = []
    async with anyio.create_task_group() as waiting, anyio.create_task_group() as group:
        tasks = TaskScope(group)
        reader = RowReader(tasks=tasks, now=store.load, soon=store.load, apply=store.apply)

        async def ask() -> None:
            with pytest.raises(StorageUnavailable):
                await reader.read(ALICE)
            outcomes.append("told")

        waiting.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        waiting.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await tasks.aclose()
    assert outcomes == ["told", "told"]
