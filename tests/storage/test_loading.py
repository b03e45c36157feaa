from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

import anyio
import pytest

from protocol.ids import ReplicaId, SourceId, UserId
from storage import dismissals, enhancements, inbox, reminders, source_configs, source_state, users
from storage.connection import connect
from storage.database import Database
from storage.errors import StorageUnavailable
from storage.inbox import InboxItem
from storage.loading import Loader, UserRows, ensure_users, load
from storage.source_configs import DefaultRow
from tests.storage.waiting import until_someone_waits_for_a_lock
from tests.storage.wire import Fault, Wire
from tests.support.postgres import PostgresServer

ALICE = UserId("alice")
BOB = UserId("bob")
CLOCK = SourceId("freya.clock")
NEWS = SourceId("freya.news")
HERE = ReplicaId("here")
DEFAULTS = [DefaultRow(CLOCK, True, {}), DefaultRow(NEWS, False, {"a": 1})]


async def fill(database: Database, user: UserId) -> int:
    async with database.write(user) as tx:
        await source_configs.put(tx, user, CLOCK, True, {"zone": "Europe/London"}, b"sealed")
        await source_configs.put(tx, user, NEWS, False, {}, None)
        await source_state.put_state(tx, user, CLOCK, {"at": 1})
        await inbox.publish(tx, user, "shop", [InboxItem(name, {"n": name}) for name in ("b", "c", "a")])
        await reminders.create(tx, user, "z", {"title": "first"})
        await dismissals.add(tx, user, "item", b"h", datetime(2030, 1, 1, tzinfo=UTC))
    async with database.write(user) as tx:
        await reminders.create(tx, user, "a", {"title": "second"})
        await dismissals.add(tx, user, "another", b"h", None)
        await enhancements.try_lease(database, user, HERE, b"input", 45, calls_per_hour=9)
        await enhancements.store(tx, user, HERE, b"input", {"i": {"s": "t"}}, [{"id": "n"}])
    await source_state.save(database, user, {CLOCK: b"items", NEWS: b"more"})
    return tx.seq


async def test_loading_brings_the_same_rows_as_the_repositories(database: Database) -> None:
    seq = await fill(database, ALICE)
    await fill(database, BOB)
    loaded = await load(database, [ALICE, BOB])
    assert list(loaded) == [ALICE, BOB]
    alice = loaded[ALICE]
    assert (alice.user, alice.seq, alice.exists, alice.defaults_given) == (ALICE, seq, True, False)
    assert list(alice.configs.values()) == await source_configs.list_(database, ALICE)
    assert list(alice.states.values()) == await source_state.list_(database, ALICE)
    assert alice.inbox == await inbox.list_(database, ALICE)
    assert alice.reminders == await reminders.list_(database, ALICE)
    assert alice.dismissals == await dismissals.list_(database, ALICE)
    assert alice.enhancement == await enhancements.get(database, ALICE)
    assert alice.enhancement is not None
    assert [len(rows) for rows in (alice.configs, alice.states, alice.inbox, alice.reminders)] == [2, 2, 3, 2]
    assert alice.configs[CLOCK].credentials == b"sealed"


async def test_an_unknown_user_is_there_empty_and_is_not_created(database: Database) -> None:
    assert await load(database, [ALICE, ALICE]) == {ALICE: UserRows(ALICE)}
    assert await load(database, []) == {}
    assert not await users.exists(database, ALICE)


async def test_a_load_works_inside_a_snapshot_too(database: Database, other: Database) -> None:
    await fill(database, ALICE)
    async with database.read() as snapshot:
        before = (await load(snapshot, [ALICE]))[ALICE]
        async with other.write(ALICE) as tx:
            await source_configs.delete(tx, ALICE, NEWS)
        assert (await load(snapshot, [ALICE]))[ALICE] == before
    assert (await load(database, [ALICE]))[ALICE].seq == before.seq + 1


async def test_new_users_are_made_and_given_the_defaults_as_one_write_each(database: Database) -> None:
    await fill(database, BOB)
    before = (await load(database, [BOB]))[BOB]
    rows = await ensure_users(database, [BOB, ALICE], DEFAULTS)
    alice, bob = rows[ALICE], rows[BOB]
    assert (alice.seq, alice.exists, alice.defaults_given) == (1, True, True)
    assert {source: row.version for source, row in alice.configs.items()} == {CLOCK: 1, NEWS: 1}
    assert (alice.configs[NEWS].enabled, alice.configs[NEWS].config) == (False, {"a": 1})
    # Who was there is given what is missing, and keeps what is there.
    assert (bob.seq, bob.defaults_given, bob.configs) == (before.seq + 1, True, before.configs)


async def test_the_defaults_are_given_once_even_by_many_at_once(database: Database, other: Database) -> None:
    async with anyio.create_task_group() as group:
        for number in range(12):
            through = database if number % 2 else other
            some = [UserId(f"user-{place}") for place in range(number, number + 20)]
            group.start_soon(ensure_users, through, some[:: 1 if number % 3 else -1], DEFAULTS)
    everyone = [UserId(f"user-{place}") for place in range(31)]
    loaded = await load(database, everyone)
    assert {rows.seq for rows in loaded.values()} == {1}
    async with database.write(everyone[0]) as tx:
        await source_configs.delete(tx, everyone[0], CLOCK)
    again = await ensure_users(database, everyone, DEFAULTS)
    assert list(again[everyone[0]].configs) == [NEWS]
    assert again[everyone[1]].seq == 1


async def test_a_returning_user_is_not_taken_for_the_one_that_was_deleted(database: Database) -> None:
    await fill(database, ALICE)
    async with database.write(ALICE) as tx:
        await users.delete_everything(tx, ALICE)
    rows = await ensure_users(database, [ALICE], DEFAULTS)
    assert rows[ALICE].seq > tx.seq
    assert list(rows[ALICE].configs) == [CLOCK, NEWS]


async def test_who_asks_together_is_answered_together(wire: Wire, database: Database) -> None:
    await fill(database, ALICE)
    async with Database.open(wire.dsn) as counted, anyio.create_task_group() as group:
        loader = Loader(counted, group)
        answers: list[UserRows] = []

        async def ask(user: UserId) -> None:
            answers.append(await loader.load_one(user))

        before = wire.executed
        async with anyio.create_task_group() as asking:
            for user in (ALICE, BOB, ALICE):
                asking.start_soon(ask, user)
        assert wire.executed - before == 1
        assert [rows.exists for rows in answers] == [True, False, True]
        assert not await users.exists(database, BOB)


async def test_a_waiter_that_is_cancelled_hurts_no_other(database: Database) -> None:
    await fill(database, ALICE)
    async with anyio.create_task_group() as group:
        loader = Loader(database, group)
        answers: list[UserRows] = []

        async def ask() -> None:
            answers.append(await loader.load_one(ALICE))

        async with anyio.create_task_group() as patient, anyio.create_task_group() as hasty:
            hasty.start_soon(ask)  # the first, who opened the batch
            await anyio.lowlevel.checkpoint()
            patient.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            hasty.cancel_scope.cancel()
        assert [rows.exists for rows in answers] == [True]


async def test_a_failure_reaches_everyone_who_waits_and_is_not_remembered(
    wire: Wire, database: Database
) -> None:
    await fill(database, ALICE)
    async with Database.open(wire.dsn, timeout_s=0.5) as fragile, anyio.create_task_group() as group:
        loader = Loader(fragile, group)
        failures: list[StorageUnavailable] = []

        async def ask() -> None:
            with pytest.raises(StorageUnavailable) as failure:
                await loader.load_one(ALICE)
            failures.append(failure.value)

        wire.at("FROM reminders", Fault.SILENCE)
        async with anyio.create_task_group() as asking:
            for _ in range(3):
                asking.start_soon(ask)
        assert [failure.outcome for failure in failures] == ["none"] * 3
        assert len({id(failure) for failure in failures}) == 3
        assert (await loader.load_one(ALICE)).exists


async def test_no_answer_is_older_than_the_question(
    postgres: PostgresServer, database_url: str, database: Database
) -> None:
    await fill(database, ALICE)
    locker = await connect(postgres.dsn(urlsplit(database_url).path[1:]), timeout_s=10, settings={})
    answers: dict[str, UserRows] = {}
    try:
        async with anyio.create_task_group() as group:
            loader = Loader(database, group)

            async def ask(name: str) -> None:
                answers[name] = await loader.load_one(ALICE)

            await locker.execute("BEGIN")
            await locker.execute("LOCK TABLE enhancements IN ACCESS EXCLUSIVE MODE")
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask, "early")
                await until_someone_waits_for_a_lock(database)
                await locker.execute("UPDATE users SET seq = seq + 1 WHERE user_id = 'alice'")
                await locker.execute("COMMIT")
                asking.start_soon(ask, "late")
            seq = await database.fetch_one("SELECT seq FROM users WHERE user_id = 'alice'")
            assert seq is not None
            assert answers["late"].seq == seq[0]
            assert answers["early"].seq in (seq[0] - 1, seq[0])
    finally:
        locker.terminate()


async def test_who_still_waits_when_the_loader_ends_is_told_so(database_url: str, database: Database) -> None:
    locker = await connect(database_url, timeout_s=10, settings={})
    try:
        await locker.execute("BEGIN")
        await locker.execute("LOCK TABLE enhancements IN ACCESS EXCLUSIVE MODE")

        async def ask(loader: Loader) -> None:
            with pytest.raises(StorageUnavailable, match="shutting down"):
                await loader.load_one(ALICE)

        async with anyio.create_task_group() as asking, anyio.create_task_group() as group:
            asking.start_soon(ask, Loader(database, group))
            await until_someone_waits_for_a_lock(database)
            group.cancel_scope.cancel()
    finally:
        locker.terminate()
    rested = database.statistics()
    assert rested.idle == rested.size
