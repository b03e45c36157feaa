"""What happens when the line breaks, the server goes, or nobody answers. Each fault is made on the wire."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import anyio
import pytest
from anyio import to_thread

from protocol.ids import SourceId, UserId
from storage import source_configs, source_state
from storage.connection import connect
from storage.database import Database
from storage.errors import StorageUnavailable
from tests.storage.waiting import until
from tests.storage.wire import Fault, Wire
from tests.support.postgres import PostgresServer

ALICE = UserId("alice")
SOURCE = SourceId("freya.user")

T = TypeVar("T")

COMMIT = "COMMIT\0"
SYNC = "S\0\0\0\4"  # the message that ends a prepared statement's run


async def write_one(database: Database) -> int:
    async with database.write(ALICE) as tx:
        await source_configs.put(tx, ALICE, SOURCE, True, {"seq": tx.seq}, None)
    return tx.seq


async def stored(database: Database) -> object:
    row = await source_configs.get(database, ALICE, SOURCE)
    return None if row is None else row.config["seq"]


async def failure_of(work: Callable[[], Awaitable[object]]) -> StorageUnavailable:
    with anyio.fail_after(60), pytest.raises(StorageUnavailable) as failure:
        await work()
    return failure.value


async def eventually(work: Callable[[], Awaitable[T]]) -> T:
    """Its first answer: with a patience this short, a busy machine may need several attempts."""
    with anyio.fail_after(60):
        while True:
            with suppress(StorageUnavailable):
                return await work()


async def test_a_backend_killed_in_the_middle_of_a_write_leaves_nothing(
    database: Database, other: Database
) -> None:
    await write_one(database)

    async def killed_on_the_way() -> None:
        async with database.write(ALICE) as tx:
            await source_configs.put(tx, ALICE, SOURCE, True, {"seq": "half"}, None)
            (mine,) = await tx.fetch("SELECT pg_backend_pid()")
            await other.fetch("SELECT pg_terminate_backend($1, 5000)", mine[0])
            await source_configs.put(tx, ALICE, SOURCE, True, {"seq": "late"}, None)

    assert (await failure_of(killed_on_the_way)).outcome == "none"
    assert await stored(database) == 1
    assert await write_one(database) == 2


async def test_a_backend_killed_just_before_the_commit_is_known_to_have_written_nothing(
    database: Database, other: Database
) -> None:
    async def killed_at_the_end() -> None:
        async with database.write(ALICE) as tx:
            await source_configs.put(tx, ALICE, SOURCE, True, {"seq": "half"}, None)
            (mine,) = await tx.fetch("SELECT pg_backend_pid()")
            await other.fetch("SELECT pg_terminate_backend($1, 5000)", mine[0])

    assert (await failure_of(killed_at_the_end)).outcome == "none"
    assert await stored(database) is None
    assert database.statistics().commits_unknown == 0


async def test_a_commit_that_did_not_arrive_is_known_to_have_written_nothing(
    wire: Wire, database: Database
) -> None:
    async with Database.open(wire.dsn) as fragile:
        wire.at(COMMIT, Fault.LOSE_STATEMENT)
        assert (await failure_of(lambda: write_one(fragile))).outcome == "none"
        assert await stored(database) is None
        assert await write_one(fragile) == 1


async def test_a_commit_whose_answer_was_lost_is_found_to_have_happened(
    wire: Wire, database: Database
) -> None:
    async with Database.open(wire.dsn) as fragile:
        wire.at(COMMIT, Fault.LOSE_ANSWER)
        assert await write_one(fragile) == 1
        assert await stored(database) == 1
        assert fragile.statistics().commits_unknown == 0


async def test_a_commit_is_unknown_only_while_nobody_can_tell(wire: Wire, database: Database) -> None:
    async with Database.open(wire.dsn, timeout_s=1.0) as fragile, anyio.create_task_group() as group:

        async def cut_off() -> None:
            await wire.reached.wait()
            wire.refusing = True

        wire.at(COMMIT, Fault.SILENCE)
        group.start_soon(cut_off)
        failure = await failure_of(lambda: write_one(fragile))
        assert failure.outcome == "unknown"
        assert fragile.statistics().commits_unknown == 1


async def test_a_single_write_whose_answer_was_lost_is_unknown(wire: Wire, database: Database) -> None:
    await write_one(database)
    async with Database.open(wire.dsn) as fragile:

        async def report(place: int) -> object:
            return await source_state.put_state_at_once(fragile, ALICE, SOURCE, {"at": place})

        assert await report(1) == 2
        wire.at(SYNC, Fault.LOSE_ANSWER)
        assert (await failure_of(lambda: report(2))).outcome == "unknown"
        (row,) = await source_state.list_(database, ALICE)
        assert row.state == {"at": 2}
        wire.at(SYNC, Fault.LOSE_STATEMENT)
        assert (await failure_of(lambda: report(3))).outcome == "unknown"
        (row,) = await source_state.list_(database, ALICE)
        assert row.state == {"at": 2}


async def test_a_read_whose_line_breaks_is_asked_again(wire: Wire, database: Database) -> None:
    await write_one(database)
    async with Database.open(wire.dsn) as fragile:
        wire.at("user_source_config", Fault.LOSE_STATEMENT)
        assert await stored(fragile) == 1
        wire.at("user_source_config", Fault.LOSE_ANSWER)
        assert await stored(fragile) == 1
        assert fragile.statistics().trouble is None


async def test_a_write_whose_line_breaks_at_its_beginning_is_begun_again(
    wire: Wire, database: Database
) -> None:
    async with Database.open(wire.dsn) as fragile:
        for text in ("BEGIN", "UPDATE users", "INSERT INTO users"):
            wire.at(text, Fault.LOSE_STATEMENT)
        assert await write_one(fragile) == 1
        assert fragile.statistics().lost == 3
    assert await stored(database) == 1


@pytest.mark.parametrize("text", ["BEGIN", "user_source_config"])
async def test_a_silent_server_costs_no_more_than_the_patience(wire: Wire, text: str) -> None:
    async with Database.open(wire.dsn, timeout_s=0.5) as impatient:
        wire.at(text, Fault.SILENCE)
        assert (await failure_of(lambda: write_one(impatient))).outcome == "none"
        # The server, too, ends what it hears no more of, and with it the hold on alice's row.
        assert await eventually(lambda: write_one(impatient)) == 1


async def test_a_silent_server_costs_a_read_no_more_than_the_patience(wire: Wire) -> None:
    async with Database.open(wire.dsn, timeout_s=0.5) as impatient:
        wire.at("user_source_config", Fault.SILENCE)
        assert (await failure_of(lambda: stored(impatient))).outcome == "none"
        assert await eventually(lambda: stored(impatient)) is None


async def test_idle_connections_survive_a_restart_of_the_server_unnoticed(
    postgres: PostgresServer, database: Database
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(database.global_seq)
    await to_thread.run_sync(postgres.restart)
    assert await write_one(database) == 1
    assert await stored(database) == 1


async def test_a_server_that_comes_back_in_time_is_a_short_delay(
    postgres: PostgresServer, database_url: str
) -> None:
    async with Database.open(database_url, timeout_s=60) as database:
        await to_thread.run_sync(postgres.stop)
        async with anyio.create_task_group() as group:
            group.start_soon(write_one, database)
            await until(lambda: database.statistics().lost >= 2)
            assert database.statistics().trouble is not None
            await to_thread.run_sync(postgres.start)
        assert await stored(database) == 1


async def test_a_server_that_is_gone_is_said_to_be_and_nothing_hangs(
    postgres: PostgresServer, database_url: str
) -> None:
    async with Database.open(database_url, timeout_s=0.5) as database:
        await to_thread.run_sync(postgres.stop, signal.SIGINT)
        failures = [
            await failure_of(lambda: write_one(database)),
            await failure_of(lambda: stored(database)),
            await failure_of(lambda: database.differing([(ALICE, 0)])),
            await failure_of(lambda: source_state.put_state_at_once(database, ALICE, SOURCE, {})),
        ]
        assert [failure.outcome for failure in failures] == ["none"] * 4
        assert not await source_state.save(database, ALICE, {SOURCE: b"x"})
        await to_thread.run_sync(postgres.start)
        assert await eventually(lambda: write_one(database)) == 1


async def test_opening_says_which_server_does_not_answer_and_never_the_password(
    postgres: PostgresServer, database_url: str
) -> None:
    async def start(dsn: str) -> None:
        async with Database.open(dsn, timeout_s=0.5):
            pass

    wrong = database_url.replace(f"port={postgres.port}", "port=1")
    assert "cannot connect to PostgreSQL at" in str(await failure_of(lambda: start(wrong)))
    nowhere = "postgresql://u:hush@127.0.0.1:1/db"
    text = str(await failure_of(lambda: start(nowhere)))
    assert "127.0.0.1:1" in text
    assert "hush" not in text
    missing = database_url.replace("/freya_", "/no_such_")
    assert "no_such_" in str(await failure_of(lambda: start(missing)))
    for malformed in ("", "mysql://u:hush@host/db", "postgresql://u:hush@host:port/db", "not an address"):
        text = str(await failure_of(lambda dsn=malformed: start(dsn)))
        assert "hush" not in text
        assert "postgresql://" in text or "cannot connect" in text


async def test_a_wrong_password_is_said_at_once(postgres: PostgresServer, wire: Wire) -> None:
    async def start() -> None:
        async with Database.open(wire.dsn.replace(postgres.password, "wrong"), timeout_s=600):
            pass

    text = str(await failure_of(start))
    assert "refuses us" in text
    assert "wrong" not in text


async def test_who_waits_for_a_connection_too_long_is_told_so(database_url: str) -> None:
    async with Database.open(database_url, pool_size=1, timeout_s=600) as patient:

        async def wait_for_a_connection() -> None:
            with anyio.move_on_after(0.05):
                await stored(patient)
                pytest.fail("there was a second connection")

        async with patient.read():
            await wait_for_a_connection()
            assert patient.statistics().waiting == 0
        assert await stored(patient) is None


async def test_a_write_that_is_stuck_gives_its_connection_to_the_next(
    database_url: str, database: Database
) -> None:
    async with (
        Database.open(database_url, pool_size=1, timeout_s=1.0) as crowded,
        database.write(ALICE),
        anyio.create_task_group() as group,
    ):
        group.start_soon(failure_of, lambda: write_one(crowded))
        await until(lambda: crowded.statistics().size == 1 and crowded.statistics().idle == 0)
        assert await eventually(lambda: stored(crowded)) is None


async def test_waiting_for_a_users_turn_has_an_end(database_url: str, database: Database) -> None:
    async with Database.open(database_url, timeout_s=0.5) as impatient:
        async with database.write(ALICE):
            assert (await failure_of(lambda: write_one(impatient))).outcome == "none"
        assert await eventually(lambda: write_one(impatient)) == 2


async def test_a_writer_that_freezes_loses_its_turn(database_url: str, database: Database) -> None:
    # As a replica does whose machine sleeps: its connection stands, with alice's row locked.
    frozen = await connect(
        database_url, timeout_s=10, settings={"idle_in_transaction_session_timeout": "200"}
    )
    try:
        async with database.write(ALICE):
            pass
        await frozen.execute("BEGIN")
        await frozen.execute("UPDATE users SET seq = seq + 100")
        assert await write_one(database) == 2
    finally:
        frozen.terminate()


async def open_transactions(database: Database) -> int:
    rows = await database.fetch(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
    )
    return len(rows)


async def test_a_write_cancelled_at_any_moment_leaves_all_or_nothing_and_no_connection_behind(
    database: Database, other: Database
) -> None:
    await write_one(database)
    finished = 0
    for steps in range(1, 60):
        done = anyio.Event()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def write_and_tell(done: anyio.Event = done) -> None:
                    await write_one(database)
                    done.set()

                group.start_soon(write_and_tell)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                    await anyio.sleep(0.0001)
                scope.cancel()
        finished += done.is_set()
        row = await other.fetch_one("SELECT seq FROM users WHERE user_id = $1", ALICE)
        assert row is not None
        assert await stored(other) == row[0]
        rested = database.statistics()
        assert (rested.idle, rested.waiting) == (rested.size, 0)
    assert finished
    assert await open_transactions(other) == 0
    assert (await write_one(database)) == await stored(other)


async def test_reads_cancelled_at_any_moment_leave_no_connection_behind(database: Database) -> None:
    for steps in range(1, 40):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(database.fetch, "SELECT pg_sleep(0.005)")
                group.start_soon(stored, database)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        rested = database.statistics()
        assert (rested.idle, rested.waiting) == (rested.size, 0)
    assert await stored(database) is None


async def test_a_cancellation_during_the_commit_waits_for_it(wire: Wire, database: Database) -> None:
    async with Database.open(wire.dsn) as slow:
        wire.at(COMMIT, Fault.LOSE_ANSWER)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(write_one, slow)
                await wire.reached.wait()
                scope.cancel()
        assert await stored(database) == 1
