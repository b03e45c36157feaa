from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from protocol.ids import UserId
from storage import embedded, restarts
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.errors import EmbeddedPostgresFailed
from storage.migrate import migrate
from storage.postgres_programs import Programs, account_for, find_programs, make_reachable
from storage.restarts import Incident, Restarts
from tests.storage.waiting import until
from tests.support.reaper import Reaper

ROOT = os.geteuid() == 0
ALICE = UserId("alice")
HERE = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(reaper: Reaper) -> Generator[Path]:
    """A directory that everybody can reach; whatever PostgreSQL runs below it at the end is ended."""
    directory = Path(tempfile.mkdtemp(prefix="freya-embedded-"))
    directory.chmod(0o755)
    reaper.remove(directory)
    yield directory
    for record in directory.rglob("postmaster.pid"):
        end(int(record.read_text().split()[0]))
    shutil.rmtree(directory)


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def private(data_dir: Path, place: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, shared_dir=place / "shared")


def postmaster(data_dir: Path) -> int | None:
    """The process that serves the cluster, if there is one."""
    try:
        pid = int((data_dir / "pg" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def value(dsn: str, query: str) -> object:
    async with Database.open(dsn) as database:
        row = await database.fetch_one(query)
        return row and row[0]


async def test_it_starts_from_nothing_privately_and_stops_with_its_user(place: Path) -> None:
    data_dir = place / "not" / "yet" / "there"
    postgres = private(data_dir, place)
    async with postgres as dsn:
        await migrate(dsn)
        assert await value(dsn, "SHOW listen_addresses") == ""
        assert await value(dsn, "SELECT count(*) FROM users") == 0
        sockets = Path(str(await value(dsn, "SHOW unix_socket_directories")))
        assert mode(sockets) == 0o700
        assert [bool(postgres.notices), "runs as" in " ".join(postgres.notices)] == [ROOT, ROOT]
        assert postmaster(data_dir) is not None
    assert postmaster(data_dir) is None
    assert mode(place) == 0o755
    async with private(data_dir, place) as dsn, Database.open(dsn) as database:
        assert await database.global_seq() == 0


async def test_two_users_share_it_and_the_last_one_out_stops_it(place: Path) -> None:
    addresses: list[str] = []
    leave = [anyio.Event(), anyio.Event()]
    async with anyio.create_task_group() as group:
        left = [anyio.Event(), anyio.Event()]

        async def use(number: int) -> None:
            async with private(place / "data", place) as dsn:
                addresses.append(dsn)
                await leave[number].wait()
            left[number].set()

        group.start_soon(use, 0)
        group.start_soon(use, 1)
        await until(lambda: len(addresses) == 2)
        assert addresses[0] == addresses[1]
        leave[0].set()
        await left[0].wait()
        assert postmaster(place / "data") is not None
        leave[1].set()
    assert postmaster(place / "data") is None


HOLD = """
    import sys, anyio
    from pathlib import Path
    from storage.embedded import EmbeddedPostgres

    async def hold():
        async with EmbeddedPostgres(Path(sys.argv[1]), shared_dir=Path(sys.argv[2])) as dsn:
            print(dsn, flush=True)
            await anyio.sleep_forever()

    anyio.run(hold)
"""


def hold(data_dir: Path, place: Path) -> tuple[subprocess.Popen[str], str]:
    """Another process that uses the cluster, and the address it was given."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(data_dir), str(place / "shared")]
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


async def test_a_start_after_a_crash_adopts_what_still_runs_and_stops_it_in_the_end(place: Path) -> None:
    process, dsn = await to_thread.run_sync(hold, place / "data", place)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    before = postmaster(place / "data")
    assert before is not None
    async with private(place / "data", place) as adopted:
        assert adopted == dsn
        assert postmaster(place / "data") == before
        await migrate(adopted)
    assert postmaster(place / "data") is None


async def test_it_starts_again_after_postgresql_itself_was_killed(place: Path) -> None:
    async with private(place / "data", place) as dsn:
        await migrate(dsn)
        pid = postmaster(place / "data")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with private(place / "data", place) as again:
            assert postmaster(place / "data") not in (None, pid)
            assert await value(again, "SELECT count(*) FROM users") == 0


async def test_kept_running_it_is_started_again_on_the_same_address_with_what_was_committed(
    place: Path,
) -> None:
    told: list[Incident] = []
    postgres = private(place / "data", place)
    async with postgres as dsn, anyio.create_task_group() as group:
        await migrate(dsn)
        async with Database.open(dsn) as database:
            async with database.write(ALICE):
                pass
            pid = postmaster(place / "data")
            assert pid is not None
            group.start_soon(postgres.keep_running, told.append)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: [each.what for each in told] == ["gone", "back"])
            assert postmaster(place / "data") not in (None, pid)
            row = await database.fetch_one("SELECT count(*) FROM users")
            assert row is not None
            assert row[0] == 1
        group.cancel_scope.cancel()


async def test_what_cannot_be_looked_at_is_not_taken_for_dead(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process short of file descriptors sees nothing, and must not start a second server over the files."""
    monkeypatch.setattr(embedded, "_LOOK_S", 0.05)
    told: list[Incident] = []
    postgres = private(place / "data", place)
    async with postgres as dsn, anyio.create_task_group() as group:
        record = place / "data" / "pg" / "postmaster.pid"
        content = record.read_bytes()
        pid = postmaster(place / "data")
        record.rename(place / "record")
        record.mkdir()  # cannot be read, and is no absence either
        group.start_soon(postgres.keep_running, told.append)
        await anyio.sleep(0.5)
        assert told == []
        record.rmdir()
        (place / "record").rename(record)
        assert record.read_bytes() == content
        os.kill(pid or 0, signal.SIGKILL)
        await until(lambda: [each.what for each in told] == ["gone", "back"])
        assert await value_without_schema(dsn) == 1
        group.cancel_scope.cancel()


async def test_one_that_cannot_be_started_is_tried_again_until_it_can(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "_FIRST_PAUSE_S", 0.0)
    told: list[Incident] = []
    postgres = private(place / "data", place)
    async with postgres, anyio.create_task_group() as group:
        pid = postmaster(place / "data")
        assert pid is not None
        (place / "data" / "pg" / "global").rename(place / "data" / "lost")
        os.kill(pid, signal.SIGKILL)
        group.start_soon(postgres.keep_running, told.append)
        await until(lambda: [each.what for each in told].count("failed") == 2)
        assert "does not start" in (told[1].reason or "")
        (place / "data" / "lost").rename(place / "data" / "pg" / "global")
        await until(lambda: told[-1].what == "back")
        assert postmaster(place / "data") not in (None, pid)
        group.cancel_scope.cancel()


def test_pauses_between_attempts_grow_and_a_minute_of_health_forgives_all() -> None:
    policy = Restarts()
    pauses: list[float] = []
    for _ in range(12):
        pauses.append(policy.went(0.0))
        policy.came_back(0.0)
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[9:] == [30, 300, 300]
    assert policy.went(59.0) == 300
    policy.came_back(100.0)
    assert policy.went(160.0) == 0


async def test_a_recorded_process_number_that_is_another_processs_now_is_no_obstacle(place: Path) -> None:
    async with private(place / "data", place):
        pass
    cluster = place / "data" / "pg"
    for record in (cluster / "postmaster.pid", cluster / ".s.PGSQL.5432.lock"):
        record.write_text(f"{os.getpid()}\n{cluster}\n1700000000\n5432\n{cluster}\n\n0 0\nready\n")
        shutil.chown(record, cluster.stat().st_uid, cluster.stat().st_gid)
    async with private(place / "data", place) as dsn:
        assert await value_without_schema(dsn) == 1


async def value_without_schema(dsn: str) -> object:
    await migrate(dsn)
    return await value(dsn, "SELECT 1")


async def test_a_making_that_was_broken_off_is_begun_anew(place: Path) -> None:
    (place / "data" / "pg.new" / "base").mkdir(parents=True)
    async with private(place / "data", place) as dsn:
        assert await value_without_schema(dsn) == 1
    assert not (place / "data" / "pg.new").exists()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(place: Path) -> None:
    data_dir = place / ("long" * 30) / "with spaces, commas and ümlauts"
    async with private(data_dir, place) as dsn:
        assert await value_without_schema(dsn) == 1
        sockets = Path(str(await value(dsn, "SHOW unix_socket_directories")))
        assert len(str(sockets)) < 90
        assert mode(sockets) == 0o700
        async with private(data_dir, place) as again:
            assert again == dsn


async def test_a_cancelled_start_leaves_nothing_running(place: Path) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def start() -> None:
                async with private(place / "data", place):
                    pytest.fail("it was cancelled before")

            group.start_soon(start)
            await until((place / "data" / "pg.lock").exists)
            scope.cancel()
    assert scope.cancelled_caught
    assert postmaster(place / "data") is None
    async with private(place / "data", place) as dsn:
        assert await value_without_schema(dsn) == 1


async def refusal(data_dir: Path, place: Path) -> str:
    with pytest.raises(EmbeddedPostgresFailed) as refused:
        await private(data_dir, place).__aenter__()
    return str(refused.value)


async def test_what_cannot_be_used_is_said_with_what_to_do(place: Path) -> None:
    data_dir = place / "data"
    (data_dir / "pg").mkdir(parents=True)
    assert "is not a PostgreSQL cluster" in await refusal(data_dir, place)
    (data_dir / "pg" / "PG_VERSION").write_text("9\n")
    assert "was made by PostgreSQL 9" in await refusal(data_dir, place)
    shutil.rmtree(data_dir / "pg")
    (data_dir / "pg").symlink_to(place / "gone")
    assert "which is gone" in await refusal(data_dir, place)
    assert "cannot take the path" in await refusal(place / 'a"b', place)
    (place / "file").write_text("")
    assert "cannot use" in await refusal(place / "file", place)
    assert postmaster(data_dir) is None


async def test_a_lock_held_for_ever_ends_the_patience(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PATIENCE_S", 0.1)
    (place / "data").mkdir()
    with (place / "data" / "pg.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process has been holding" in await refusal(place / "data", place)


def test_a_machine_without_programs_is_told_to_bring_a_database(place: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match="set DATABASE_URL"):
        find_programs([place])


def test_a_program_that_fails_is_quoted_and_one_that_hangs_is_ended(place: Path) -> None:
    programs = Programs(place, 18)
    for name, script in (("loud", "echo no room >&2; exit 3"), ("slow", "sleep 600")):
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    with pytest.raises(EmbeddedPostgresFailed, match="no room"):
        programs.run(None, "loud")
    with pytest.raises(EmbeddedPostgresFailed, match=r"within 0\.1 s"):
        programs.run(None, "slow", timeout_s=0.1)
    with pytest.raises(EmbeddedPostgresFailed, match="cannot be run"):
        programs.run(None, "missing")


def test_the_wheel_brings_programs_and_the_newest_come_first() -> None:
    majors = [programs.major for programs in find_programs()]
    assert majors == sorted(majors, reverse=True)
    assert majors[0] >= 16


def private_copy(folder: Path, home: Path) -> Path:
    """The wheel as it lies in an environment below that home."""
    package = folder.parent.parent
    for source in (folder.parent, package.with_name(f"{package.name}.libs")):
        if source.exists():
            target = home / "env" / source.relative_to(package.parent)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a"))
    return home / "env" / folder.relative_to(package.parent)


@pytest.mark.skipif(not ROOT, reason="only root has a home that PostgreSQL's stand-in cannot reach")
async def test_under_a_private_home_root_puts_data_and_programs_where_they_can_be_reached(
    place: Path,
) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    newest = find_programs()[0]
    programs = private_copy(newest.folder, home)
    postgres = EmbeddedPostgres(home / "clone" / "data", shared_dir=place / "shared", programs=[programs])
    async with postgres as dsn:
        assert await value_without_schema(dsn) == 1
        directory = str(await value(dsn, "SHOW data_directory"))
        assert directory.startswith(str(place / "shared" / "data"))
        assert (home / "clone" / "data" / "pg").resolve() == Path(directory)
        assert directory in postgres.notices[0]
    assert list((place / "shared" / "programs").iterdir())
    assert mode(home) == 0o700
    # Found again by its link, also after the clone moved.
    shutil.move(home / "clone", home / "moved")
    async with EmbeddedPostgres(home / "moved" / "data", shared_dir=place / "shared") as dsn:
        assert await value(dsn, "SHOW data_directory") == directory


AS_SOMEBODY = """
    import os, sys, anyio
    from pathlib import Path
    import anyio._backends._asyncio, asyncpg, selectors
    from storage.database import Database
    from storage.embedded import EmbeddedPostgres
    from storage.errors import EmbeddedPostgresFailed
    from storage.migrate import known_migrations, migrate
    from storage.postgres_programs import account_for

    known_migrations()  # what is imported late is out of reach afterwards
    somebody = account_for(Path("/nonexistent"))
    os.setgroups([]), os.setgid(somebody.gid), os.setuid(somebody.uid)
    data_dir, programs = Path(sys.argv[1]), Path(sys.argv[2])

    async def use():
        postgres = EmbeddedPostgres(data_dir, programs=[programs])
        async with postgres as dsn:
            await migrate(dsn)
            async with Database.open(dsn) as database:
                rows = await database.fetch("SHOW data_directory")
                print(os.geteuid(), rows[0][0], postgres.notices)

    try:
        anyio.run(use)
    except EmbeddedPostgresFailed as error:
        print("refused:", error)
"""


@pytest.mark.skipif(not ROOT, reason="as an ordinary user every other test here shows it")
def test_an_ordinary_user_runs_it_as_they_are(place: Path) -> None:
    somebody = account_for(place / "nothing")
    assert somebody is not None
    programs = make_reachable(find_programs()[0], somebody, place / "shared")

    def run(data_dir: Path) -> str:
        command = [sys.executable, "-c", textwrap.dedent(AS_SOMEBODY), str(data_dir), str(programs.folder)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120, check=False)
        assert done.stderr == ""
        return done.stdout.strip()

    home = place / "home"
    home.mkdir(mode=0o700)
    shutil.chown(home, somebody.uid, somebody.gid)
    assert run(home / "data") == f"{somebody.uid} {home}/data/pg []"
    strangers = place / "strangers"
    (strangers / "pg").mkdir(parents=True)
    assert "choose another FREYA_DATA_DIR" in run(strangers)
    strangers.chmod(0o777)
    assert "belongs to root" in run(strangers)
