"""The database: a pool of connections, transactions in the user's order, and nothing that waits for ever.

A write opens with raising the user's `seq`. That row is the user's write lock, and the number the place of
the write in the user's order: two writes of one user never overlap, on whatever replica. Reads are one
statement (its own snapshot) or a `read()` (one snapshot for several).

Every operation has `timeout_s` in all, waiting for a connection included. What has not written yet is
repeated on a fresh connection until then, so that a restart of PostgreSQL shows as a short delay. When the
answer to a COMMIT is lost, the database is asked what became of the transaction.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

import anyio
import asyncpg

from protocol.ids import UserId
from storage.connection import ConnectionLost, Driver, OutOfRoom, Row, Tx, translated
from storage.errors import StorageUnavailable
from storage.migrate import check_schema
from storage.pool import Lent, Pool

__all__ = ["Database", "PoolStatistics", "ReadTx", "WriteTx"]

# How the patience is spent, so that nothing takes longer than all of it: a write works until here,
_WORK_SHARE: Final = 0.7
# is committed until here,
_COMMIT_SHARE: Final = 0.8
# and everything, a read or learning what became of a lost COMMIT, is over here.
_ANSWER_SHARE: Final = 0.9
# The rest is for a rollback, see `Pool.give_back`.
_STILL_COMMITTING_S: Final = 0.1
# `xid8`, which tells what became of a lost COMMIT, and `pg_xact_status` with it.
_OLDEST_SERVER: Final = 14


class ReadTx(Tx):
    """One snapshot: everything read through it is of one moment."""

    __slots__ = ()


class WriteTx(Tx):
    """A write under way: committed when its block ends, rolled back when the block raises.

    `seq` is this write's place in the order of its user (of the global row, where `user` is None). A row
    that carries a version carries this number.
    """

    __slots__ = ("seq", "user")

    def __init__(self, driver: Driver, user: UserId | None, seq: int) -> None:
        super().__init__(driver)
        self.user = user
        self.seq = seq


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The pool as it is now. `waiting` counts operations without a connection, `lost` connections that
    failed since the start, `commits_unknown` writes whose fate could not be learnt; `trouble` is why the
    last attempt failed, or None since one has succeeded. `out_of_room` says that the last write failed for
    want of disk space or another resource: what is stored can still be read."""

    size: int
    idle: int
    maximum: int
    waiting: int
    lost: int
    commits_unknown: int
    trouble: str | None
    out_of_room: bool


class Database:
    """What everything that reads or writes stored rows is handed. Safe for any number of tasks at once.

    It is a `Runner` itself: `fetch` and `fetch_one` are single reads, repeated where a connection is lost;
    `run` is a single statement that writes, never repeated once it was sent.
    """

    def __init__(self, pool: Pool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._commits_unknown = 0
        self._out_of_room = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        dsn: str,
        *,
        pool_size: int = 10,
        timeout_s: float = 5.0,
        application_name: str = "freya-push",
    ) -> AsyncGenerator[Self]:
        """Connect, check the schema, and close everything at the end of the block.

        Raises StorageUnavailable (which server, and why) when it does not answer within `timeout_s`,
        MigrationNeeded or SchemaTooNew when its schema is not one this code can work with.
        """
        async with Pool.open(
            dsn, size=pool_size, timeout_s=timeout_s, application_name=application_name
        ) as pool:
            database = cls(pool, timeout_s)
            await database._check_server()
            yield database

    @asynccontextmanager
    async def write(self, user: UserId) -> AsyncGenerator[WriteTx]:
        """A write of this user's rows, alone among the user's writes, committed when the block ends.

        Creates the user's row if there is none. Raises StorageUnavailable: "none" where nothing was
        written, "unknown" where the COMMIT's fate could not be learnt. Any exception from the block rolls
        back and passes. Cancellation before the COMMIT rolls back; from the COMMIT on it waits for it.
        """
        async with self._transaction(lambda tx: _raise_user(tx, user)) as (driver, seq):
            yield WriteTx(driver, user, seq)

    @asynccontextmanager
    async def write_global(self) -> AsyncGenerator[WriteTx]:
        """The same for what belongs to no user, provider settings and revocations, under the global seq."""
        async with self._transaction(_raise_global) as (driver, seq):
            yield WriteTx(driver, None, seq)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadTx]:
        """One snapshot for several queries. Raises StorageUnavailable("none")."""
        with anyio.CancelScope(deadline=anyio.current_time() + self._timeout_s * _ANSWER_SHARE) as patience:
            driver, _ = await self._pool.start(_begin_snapshot)
            try:
                yield ReadTx(driver)
            finally:
                await self._pool.give_back(driver, clean=False)
            return
        raise self._too_late(patience)

    async def fetch(self, query: str, *args: object) -> list[Row]:
        """One reading statement. Repeated if the connection is lost; raises StorageUnavailable("none")."""
        with anyio.CancelScope(deadline=anyio.current_time() + self._timeout_s * _ANSWER_SHARE) as patience:
            driver, rows = await self._pool.start(lambda tx: tx.fetch(query, *args))
            await self._pool.give_back(driver, clean=True)
            return rows
        raise self._too_late(patience)

    async def fetch_one(self, query: str, *args: object) -> Row | None:
        """The first row of one reading statement, or None. Repeated and raises like `fetch`."""
        rows = await self.fetch(query, *args)
        return rows[0] if rows else None

    async def run(self, query: str, *args: object) -> list[Row]:
        """One writing statement, its own transaction; not repeated once it was sent.

        Raises StorageUnavailable, "unknown" where the answer was lost. A cancelled call may have written.
        """
        sent = False
        with anyio.CancelScope(deadline=anyio.current_time() + self._timeout_s * _ANSWER_SHARE) as patience:
            driver, _ = await self._pool.start(_nothing)
            sent = True
            try:
                rows = await Tx(driver).fetch(query, *args)
            except BaseException as error:
                await self._pool.give_back(driver, clean=False)
                self._note(error)
                if isinstance(error, ConnectionLost):
                    raise self._unknown(error.reason) from error
                raise
            await self._pool.give_back(driver, clean=True)
            self._out_of_room = False
            return rows
        raise self._unknown("no answer in time") if sent else self._too_late(patience)

    async def differing(self, pairs: Sequence[tuple[UserId, int]]) -> list[tuple[UserId, int]]:
        """Of these users with the seq somebody holds, those whose stored seq is another, with that one.

        A user without a row counts as seq 0. One query, however many.
        """
        rows = await self.fetch(_DIFFERING, [user for user, _ in pairs], [seq for _, seq in pairs])
        return [(UserId(user), seq) for user, seq in rows]

    async def global_seq(self) -> int:
        """The place of the last write that belongs to no user."""
        row = await self.fetch_one("SELECT seq FROM global_seq")
        return 0 if row is None else int(row[0])

    def statistics(self) -> PoolStatistics:
        pool = self._pool
        return PoolStatistics(
            size=pool.size,
            idle=pool.idle,
            maximum=pool.maximum,
            waiting=pool.waiting,
            lost=pool.lost,
            commits_unknown=self._commits_unknown,
            trouble=pool.trouble,
            out_of_room=self._out_of_room,
        )

    # -- inside

    @asynccontextmanager
    async def _transaction(
        self, opening: Callable[[Tx], Awaitable[tuple[int, str]]]
    ) -> AsyncGenerator[tuple[Driver, int]]:
        start = anyio.current_time()
        with anyio.CancelScope(deadline=start + self._timeout_s * _WORK_SHARE) as patience:
            try:
                driver, (seq, xid) = await self._pool.start(opening)
            except OutOfRoom as error:
                self._note(error)
                raise
            try:
                yield driver, seq
            except BaseException as error:
                self._note(error)
                await self._pool.give_back(driver, clean=False)
                raise
            # Nothing may wait between here and the shield of the COMMIT, or a cancellation could slip in
            # while the connection is ours and its transaction open.
            patience.deadline = float("inf")
            await self._commit(driver, xid, start)
            return
        raise self._too_late(patience)

    async def _commit(self, driver: Lent, xid: str, start: float) -> None:
        with anyio.CancelScope(shield=True):
            reason = "no answer in time"
            with anyio.CancelScope(deadline=start + self._timeout_s * _COMMIT_SHARE):
                try:
                    done = await driver.execute("COMMIT")
                except Exception as error:
                    ours = translated(error)
                    self._note(ours)
                    if not isinstance(ours, ConnectionLost):
                        # It was answered: refused, and so rolled back.
                        await self._pool.give_back(driver, clean=False)
                        raise ours from error
                    reason = ours.reason
                else:
                    await self._pool.give_back(driver, clean=True)
                    # A transaction in which a statement had failed is rolled back, whatever is asked.
                    if done != "COMMIT":
                        raise StorageUnavailable("none", "the transaction had failed")
                    self._out_of_room = False
                    return
            self._pool.throw_away(driver)
            await self._learn(xid, reason, start)

    async def _learn(self, xid: str, reason: str, start: float) -> None:
        """Return if the transaction was committed, else raise what is known of it."""
        self._pool.lost += 1
        fate: object = None
        with anyio.CancelScope(deadline=start + self._timeout_s * _ANSWER_SHARE):
            fate = await self._fate(xid, start)
        if fate == "committed":
            return
        raise StorageUnavailable("none", reason) if fate == "aborted" else self._unknown(reason)

    async def _fate(self, xid: str, start: float) -> object:
        try:
            while True:
                since_s = anyio.current_time() - start + _RESTART_MARGIN_S
                row = await self.fetch_one(_FATE, xid, since_s)
                if row is None:
                    return None
                status, restarted = row
                if status == "committed" and restarted:
                    # A server that crashed hands out again the ids whose traces did not reach its disk: this
                    # may be another's commit under our id. "aborted" can be believed: ours would be on disk.
                    return None
                if status != "in progress":
                    return status
                await anyio.sleep(_STILL_COMMITTING_S)
        except (StorageUnavailable, asyncpg.PostgresError):
            # The latter: the server that took over has never heard of this transaction.
            return None

    async def _check_server(self) -> None:
        with anyio.CancelScope(deadline=anyio.current_time() + self._timeout_s * _ANSWER_SHARE) as patience:
            driver, _ = await self._pool.start(check_schema)
            version = driver.get_server_version()
            await self._pool.give_back(driver, clean=True)
            if version[0] < _OLDEST_SERVER:
                raise StorageUnavailable(
                    "none", f"PostgreSQL {version[0]} is too old: {_OLDEST_SERVER} or newer is needed"
                )
            return
        raise self._too_late(patience)

    def _note(self, error: BaseException) -> None:
        if isinstance(error, OutOfRoom):
            self._out_of_room = True

    def _too_late(self, patience: anyio.CancelScope) -> StorageUnavailable:
        assert patience.cancelled_caught
        return StorageUnavailable("none", self._pool.trouble or f"no answer within {self._timeout_s:g} s")

    def _unknown(self, reason: str) -> StorageUnavailable:
        self._commits_unknown += 1
        return StorageUnavailable("unknown", reason)


# Whether the server has begun anew within so many seconds: its checkpointer does so after every crash.
_FATE: Final = """
    SELECT pg_xact_status($1::text::xid8),
        clock_timestamp() - coalesce(
            (SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer' LIMIT 1),
            pg_postmaster_start_time()
        ) < make_interval(secs => $2)"""
_RESTART_MARGIN_S: Final = 0.05  # for clocks that run unevenly

_RAISE_USER: Final = (
    "UPDATE users SET seq = seq + 1 WHERE user_id = $1 RETURNING seq, pg_current_xact_id()::text"
)
# Above every user that was ever deleted, see the table. (The floor is read before a deletion that is under
# way at this moment has raised it only if the user was created and deleted again meanwhile.)
_CREATE_USER: Final = """
    INSERT INTO users (user_id, seq) SELECT $1, user_floor + 1 FROM global_seq
    ON CONFLICT (user_id) DO UPDATE SET seq = users.seq + 1
    RETURNING seq, pg_current_xact_id()::text"""
_RAISE_GLOBAL: Final = "UPDATE global_seq SET seq = seq + 1 RETURNING seq, pg_current_xact_id()::text"
_DIFFERING: Final = """
    SELECT held.user_id, coalesce(users.seq, 0)
    FROM unnest($1::text[], $2::bigint[]) AS held (user_id, seq)
    LEFT JOIN users ON users.user_id = held.user_id
    WHERE coalesce(users.seq, 0) <> held.seq"""


async def _raise_user(tx: Tx, user: UserId) -> tuple[int, str]:
    await tx.command("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    row = await tx.fetch_one(_RAISE_USER, user) or await tx.fetch_one(_CREATE_USER, user)
    assert row is not None
    return int(row[0]), str(row[1])


async def _raise_global(tx: Tx) -> tuple[int, str]:
    await tx.command("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    row = await tx.fetch_one(_RAISE_GLOBAL)
    assert row is not None
    return int(row[0]), str(row[1])


async def _begin_snapshot(tx: Tx) -> None:
    await tx.command("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


async def _nothing(_: Tx) -> None:
    return
