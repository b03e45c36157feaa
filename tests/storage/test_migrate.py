from __future__ import annotations

import anyio
import pytest

from storage.connection import connect
from storage.database import Database
from storage.errors import MigrationNeeded, SchemaTooNew, StorageUnavailable
from storage.migrate import Migration, check, known_migrations, migrate

KNOWN = known_migrations()


def later(*, serves: int) -> Migration:
    number = KNOWN[-1].number + 1
    return Migration(number, f"{number:04}_later", serves, "CREATE TABLE later (id int)")


async def tables_of(dsn: str) -> set[str]:
    driver = await connect(dsn, timeout_s=10, settings={})
    try:
        rows = await driver.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        return {str(row[0]) for row in rows}
    finally:
        await driver.close()


async def test_an_empty_database_gets_the_whole_schema_once(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == tuple(step.name for step in KNOWN)
    assert await migrate(empty_database_url) == ()
    assert {"users", "user_source_config", "schema_migrations"} <= await tables_of(empty_database_url)


async def test_two_replicas_that_migrate_at_once_apply_each_step_once(empty_database_url: str) -> None:
    applied: list[str] = []

    async def one() -> None:
        applied.extend(await migrate(empty_database_url))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    assert applied == [step.name for step in KNOWN]


async def test_a_database_without_a_schema_is_refused_with_what_to_run(empty_database_url: str) -> None:
    with pytest.raises(MigrationNeeded, match="python -m server migrate") as refusal:
        async with Database.open(empty_database_url):
            pass
    assert (refusal.value.found, refusal.value.known) == (0, KNOWN[-1].number)


async def test_code_works_on_a_newer_schema_that_still_serves_it(database_url: str) -> None:
    await migrate(database_url, [*KNOWN, later(serves=KNOWN[-1].number)])
    await check(database_url)
    assert await migrate(database_url) == ()
    async with Database.open(database_url) as database:
        assert await database.global_seq() == 0


async def test_code_that_a_newer_schema_does_not_serve_says_so_and_stops(database_url: str) -> None:
    newer = later(serves=KNOWN[-1].number + 1)
    await migrate(database_url, [*KNOWN, newer])
    with pytest.raises(SchemaTooNew, match="start a newer release") as refusal:
        async with Database.open(database_url):
            pass
    assert refusal.value.found == refusal.value.oldest == newer.number
    with pytest.raises(SchemaTooNew):
        await migrate(database_url)


async def test_a_step_that_fails_leaves_the_schema_as_the_one_before(database_url: str) -> None:
    number = KNOWN[-1].number + 1
    broken = Migration(number, "broken", 1, "CREATE TABLE half (id int); SELECT no_such_function()")
    with pytest.raises(Exception, match="no_such_function"):
        await migrate(database_url, [*KNOWN, broken])
    assert "half" not in await tables_of(database_url)
    await check(database_url)


async def test_a_migration_waits_for_another_one_only_so_long(empty_database_url: str) -> None:
    driver = await connect(empty_database_url, timeout_s=10, settings={})
    try:
        await migrate(empty_database_url)
        await driver.execute("BEGIN")
        await driver.execute("LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StorageUnavailable, match="another process"):
            await migrate(empty_database_url, patience_s=0.2)
    finally:
        await driver.close()


def test_migrations_are_numbered_without_gaps_and_each_serves_some_code() -> None:
    assert [step.number for step in KNOWN] == list(range(1, len(KNOWN) + 1))
    assert all(1 <= step.serves <= step.number for step in KNOWN)
