"""Migrations: ordered SQL files, each applied once, in a transaction, under an advisory lock.

A file is `NNNN_name.sql`, numbered without gaps, and its first line says `-- serves: N`: the oldest code
that still works on the schema it leaves behind, named by the highest migration that code knows. So a newer
replica may migrate while older ones serve on, and code that is too old says so and stops.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import anyio

from storage.connection import Driver, Tx, connect
from storage.errors import MigrationNeeded, SchemaTooNew, StorageUnavailable

__all__ = ["Migration", "check", "check_schema", "known_migrations", "migrate"]

# Two replicas that start at once queue here; the number is arbitrary and ours alone.
_LOCK: Final = 0x46726579_61507573
_CONNECT_S: Final = 5.0
_PATIENCE_S: Final = 300.0
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_SERVES = re.compile(r"-- serves: (\d+)\n")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. `serves` is the oldest code, by its highest migration, that works after it."""

    number: int
    name: str
    serves: int
    script: str


def known_migrations() -> tuple[Migration, ...]:
    """All migrations this code brings, in order."""
    found = [
        _read(entry.name, entry.read_text(encoding="utf-8"))
        for entry in files("storage").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    ]
    found.sort(key=lambda migration: migration.number)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1))
    return tuple(found)


def _read(name: str, script: str) -> Migration:
    number, serves = _NAME.fullmatch(name), _SERVES.match(script)
    if number is None or serves is None:
        raise AssertionError(f"{name} is not a migration")
    return Migration(int(number[1]), name.removesuffix(".sql"), int(serves[1]), script)


async def migrate(
    dsn: str, migrations: Sequence[Migration] | None = None, *, patience_s: float = _PATIENCE_S
) -> tuple[str, ...]:
    """Bring the database to this code's schema; the names of the migrations that were applied now.

    Safe to run any number of times and from several processes at once: each migration is applied once, and
    whoever comes second waits for the first. Each is its own transaction, so a failure or a cancellation
    leaves the schema as some migration left it. Raises SchemaTooNew where a newer release has gone further
    than this code may follow, StorageUnavailable where the database cannot be reached or is not done
    within `patience_s`.
    """
    steps = known_migrations() if migrations is None else tuple(migrations)
    with anyio.CancelScope(deadline=anyio.current_time() + patience_s):
        driver = await connect(dsn, timeout_s=_CONNECT_S, settings={"application_name": "freya-push migrate"})
        try:
            return await _apply_missing(driver, steps)
        finally:
            await _close(driver)
    raise StorageUnavailable("none", f"another process has been migrating for {patience_s:g} s")


async def check(dsn: str) -> None:
    """Raise MigrationNeeded or SchemaTooNew unless this code can work with the database as it is."""
    driver = await connect(dsn, timeout_s=_CONNECT_S, settings={"application_name": "freya-push check"})
    try:
        await check_schema(Tx(driver))
    finally:
        await _close(driver)


async def check_schema(tx: Tx, migrations: Sequence[Migration] | None = None) -> None:
    """The same on a connection that is there already."""
    known = (known_migrations() if migrations is None else migrations)[-1].number
    found, oldest = await _standing(tx)
    if found < known:
        raise MigrationNeeded(found, known)
    if oldest > known:
        raise SchemaTooNew(found, oldest, known)


async def _standing(tx: Tx) -> tuple[int, int]:
    """The highest migration applied (0: none), and the oldest code that what is there serves."""
    there = await tx.fetch_one("SELECT to_regclass('schema_migrations') IS NOT NULL")
    if there is None or not there[0]:
        return 0, 0
    row = await tx.fetch_one(
        "SELECT coalesce(max(number), 0), coalesce(max(serves), 0) FROM schema_migrations"
    )
    assert row is not None
    return int(row[0]), int(row[1])


async def _apply_missing(driver: Driver, steps: Sequence[Migration]) -> tuple[str, ...]:
    tx = Tx(driver)
    applied: list[str] = []
    for step in steps:
        await tx.command("BEGIN")
        await tx.fetch("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await tx.command(_TABLE)
        found, oldest = await _standing(tx)
        if oldest > steps[-1].number:
            raise SchemaTooNew(found, oldest, steps[-1].number)
        if step.number > found:
            await tx.command(step.script)
            await tx.run(_RECORD, step.number, step.name, step.serves)
            applied.append(step.name)
        await tx.command("COMMIT")
    return tuple(applied)


_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        serves     integer NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )"""
_RECORD: Final = "INSERT INTO schema_migrations (number, name, serves) VALUES ($1, $2, $3)"


async def _close(driver: Driver) -> None:
    with anyio.move_on_after(1, shield=True):
        await driver.close()
        return
    driver.terminate()
