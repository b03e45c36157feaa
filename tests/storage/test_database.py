from __future__ import annotations

import anyio
import pytest

from protocol.ids import SourceId, UserId
from storage import dismissals, inbox, reminders, source_configs, source_state, users
from storage.database import Database
from storage.errors import StorageUnavailable, Unchanged

ALICE = UserId("alice")
BOB = UserId("bob")
SOURCE = SourceId("freya.user")


async def seq_of(database: Database, user: UserId) -> int:
    row = await database.fetch_one("SELECT seq FROM users WHERE user_id = $1", user)
    return 0 if row is None else int(row[0])


async def test_every_write_of_a_user_raises_the_seq_by_one_deletes_included(database: Database) -> None:
    seqs: list[int] = []
    async with database.write(ALICE) as tx:
        await source_configs.put(tx, ALICE, SOURCE, True, {}, None)
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await inbox.publish(tx, ALICE, "shop", [inbox.InboxItem("1", {"a": 1})])
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await inbox.retract(tx, ALICE, "shop", ["1"])
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await reminders.create(tx, ALICE, "r", {})
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await reminders.delete(tx, ALICE, "r")
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await dismissals.add(tx, ALICE, "item", b"h", None)
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await source_state.put_state(tx, ALICE, SOURCE, {"at": 1})
        seqs.append(tx.seq)
    async with database.write(ALICE) as tx:
        await source_configs.delete(tx, ALICE, SOURCE)
        seqs.append(tx.seq)
    assert seqs == list(range(seqs[0], seqs[0] + 8))
    assert await seq_of(database, ALICE) == seqs[-1]


async def test_a_version_rises_across_delete_and_recreate(database: Database) -> None:
    versions: list[int] = []
    for _ in range(2):
        async with database.write(ALICE) as tx:
            versions.append((await source_configs.put(tx, ALICE, SOURCE, True, {}, None)).version)
            assert versions[-1] == tx.seq
        async with database.write(ALICE) as tx:
            assert await source_configs.delete(tx, ALICE, SOURCE)
    assert versions[1] == versions[0] + 2


async def test_concurrent_writers_on_two_replicas_take_turns_and_lose_nothing(
    database: Database, other: Database
) -> None:
    seen: list[int] = []

    async def count_up(through: Database) -> None:
        async with through.write(ALICE) as tx:
            row = await source_configs.get(tx, ALICE, SOURCE)
            count = 0 if row is None else row.config["count"]
            assert isinstance(count, int)
            await source_configs.put(tx, ALICE, SOURCE, True, {"count": count + 1}, None)
            seen.append(tx.seq)

    async with anyio.create_task_group() as group:
        for _ in range(15):
            group.start_soon(count_up, database)
            group.start_soon(count_up, other)
    row = await source_configs.get(database, ALICE, SOURCE)
    assert row is not None
    assert row.config == {"count": 30}
    assert seen == list(range(seen[0], seen[0] + 30))


async def test_a_write_does_not_hold_up_another_user(database: Database) -> None:
    with anyio.fail_after(30):
        async with database.write(ALICE), database.write(BOB):
            pass
    assert await seq_of(database, BOB) == 1


async def test_what_raises_inside_a_write_undoes_it(database: Database) -> None:
    before = await seq_of(database, ALICE)

    async def stumble() -> None:
        async with database.write(ALICE) as tx:
            await source_configs.put(tx, ALICE, SOURCE, True, {}, None)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        await stumble()
    assert await seq_of(database, ALICE) == before
    assert await source_configs.list_(database, ALICE) == []


async def test_a_write_that_turns_out_to_change_nothing_raises_no_seq(database: Database) -> None:
    async with database.write(ALICE):
        pass
    with pytest.raises(Unchanged) as nothing:
        async with database.write(ALICE):
            raise Unchanged("the answer")
    assert nothing.value.value == "the answer"
    assert await seq_of(database, ALICE) == 1


async def test_a_write_in_which_a_statement_failed_is_not_taken_for_done(database: Database) -> None:
    async def overlook_a_failure() -> None:
        async with database.write(ALICE) as tx:
            await source_configs.put(tx, ALICE, SOURCE, True, {}, None)
            await tx.run("SET LOCAL statement_timeout = 1")
            with pytest.raises(StorageUnavailable, match="too busy"):
                await tx.run("SELECT pg_sleep(60)")

    with pytest.raises(StorageUnavailable) as failure:
        await overlook_a_failure()
    assert failure.value.outcome == "none"
    assert await source_configs.list_(database, ALICE) == []


async def test_a_read_sees_one_moment(database: Database, other: Database) -> None:
    async with database.write(ALICE) as tx:
        await source_configs.put(tx, ALICE, SOURCE, True, {"v": 1}, None)
    async with database.read() as snapshot:
        first = await source_configs.get(snapshot, ALICE, SOURCE)
        async with other.write(ALICE) as tx:
            await source_configs.put(tx, ALICE, SOURCE, True, {"v": 2}, None)
        assert await source_configs.get(snapshot, ALICE, SOURCE) == first
    now = await source_configs.get(database, ALICE, SOURCE)
    assert now is not None
    assert now.config == {"v": 2}


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(StorageUnavailable, match="read only"):
        async with database.read() as snapshot:
            await snapshot.fetch("INSERT INTO users (user_id, seq) VALUES ('x', 1)")


async def test_the_look_names_those_who_differ_in_either_direction_and_those_who_are_gone(
    database: Database,
) -> None:
    async with database.write(ALICE):
        pass
    async with database.write(BOB):
        pass
    held = [(ALICE, 1), (BOB, 0), (UserId("gone"), 7), (UserId("never"), 0)]
    assert sorted(await database.differing(held)) == [(BOB, 1), (UserId("gone"), 0)]
    assert await database.differing([(ALICE, 9)]) == [(ALICE, 1)]
    assert await database.differing([]) == []


async def test_what_belongs_to_no_user_has_an_order_of_its_own(database: Database) -> None:
    before = await database.global_seq()
    async with database.write_global() as tx:
        assert tx.seq == before + 1
        assert tx.user is None
    assert await database.global_seq() == before + 1
    assert await seq_of(database, ALICE) == 0


async def test_a_user_who_comes_back_after_deletion_starts_above_every_seq_they_had(
    database: Database,
) -> None:
    for _ in range(5):
        async with database.write(ALICE) as tx:
            last = tx.seq
    async with database.write(ALICE) as tx:
        await users.delete_everything(tx, ALICE)
        last = tx.seq
    assert not await users.exists(database, ALICE)
    assert await database.differing([(ALICE, last)]) == [(ALICE, 0)]
    async with database.write(ALICE) as tx:
        assert tx.seq > last


async def test_deleting_a_user_erases_every_row_that_names_them(database: Database) -> None:
    async with database.write(ALICE) as tx:
        await source_configs.put(tx, ALICE, SOURCE, True, {}, b"secret")
        await source_state.put_state(tx, ALICE, SOURCE, {"home": 1})
        await inbox.publish(tx, ALICE, "shop", [inbox.InboxItem("1", {})])
        await reminders.create(tx, ALICE, "r", {})
        await dismissals.add(tx, ALICE, "item", b"h", None)
    async with database.write(BOB) as tx:
        await reminders.create(tx, BOB, "r", {})
    async with database.write(ALICE) as tx:
        await users.delete_everything(tx, ALICE)
    tables = await database.fetch(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_name = 'user_id'"
    )
    assert len(tables) >= 8
    for (table,) in tables:
        rows = await database.fetch(f"SELECT user_id FROM {table} WHERE user_id <> 'bob'")
        assert rows == [], table
    assert len(await reminders.list_(database, BOB)) == 1


async def test_every_table_of_a_user_is_keyed_by_the_user_first(database: Database) -> None:
    keys = await database.fetch(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%user_id%'"
        " AND indexname LIKE '%_pkey'"
    )
    assert len(keys) == 9
    for (definition,) in keys:
        assert "(user_id" in definition


async def test_the_pool_reports_itself(database: Database) -> None:
    async with database.write(ALICE):
        busy = database.statistics()
    rested = database.statistics()
    assert (busy.size, busy.idle, busy.maximum) == (1, 0, 4)
    assert (rested.size, rested.idle) == (1, 1)
    assert (rested.waiting, rested.lost, rested.commits_unknown, rested.trouble) == (0, 0, 0, None)


@pytest.mark.loop("asyncio", "uvloop")
async def test_it_works_on_both_loops(database_url: str) -> None:
    async with Database.open(database_url) as database, database.write(ALICE) as tx:
        assert tx.seq == 1
