"""Everything of many users in one query: what sessions are made from.

Each table gives its rows as one shape, so that one statement, and so one snapshot, brings them all. A storm
of sessions waking up is then a query for every few hundred users instead of a dozen for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup

from protocol.ids import SourceId, UserId
from storage.connection import Reader, Row
from storage.database import Database
from storage.dismissals import DismissalRow
from storage.enhancements import EnhancementRow, read_synthetic
from storage.errors import StorageUnavailable
from storage.inbox import InboxRow
from storage.jsonb import from_jsonb, object_from_jsonb
from storage.reminders import ReminderRow, read_overrides
from storage.source_configs import DefaultRow, SourceConfigRow, default_columns
from storage.source_state import StateRow

__all__ = ["MAX_BATCH", "Loader", "UserRows", "ensure_users", "load"]

MAX_BATCH: Final = 250  # users of one query: more would make one user wait for the rows of too many others
_GATHER_S: Final = 0.005
# Batches under way at once. More would only fill the pool, and each holds its rows in memory.
_MAX_RUNNING: Final = 4


@dataclass(slots=True)
class UserRows:
    """All that is stored of one user, as of one moment; not changed after `load` has made it.

    A user without a row has `exists` False and seq 0. `inbox` and `dismissals` are in order of their
    writing, `reminders` of their creation.
    """

    user: UserId
    seq: int = 0
    exists: bool = False
    defaults_given: bool = False
    configs: dict[SourceId, SourceConfigRow] = field(default_factory=dict[SourceId, SourceConfigRow])
    states: dict[SourceId, StateRow] = field(default_factory=dict[SourceId, StateRow])
    inbox: list[InboxRow] = field(default_factory=list[InboxRow])
    reminders: list[ReminderRow] = field(default_factory=list[ReminderRow])
    dismissals: list[DismissalRow] = field(default_factory=list[DismissalRow])
    enhancement: EnhancementRow | None = None


async def load(tx: Reader, users: Sequence[UserId]) -> dict[UserId, UserRows]:
    """Everything of these users, of one moment, in one query; a user without a row is there too, and is
    not created. Raises StorageUnavailable("none")."""
    loaded = {user: UserRows(user) for user in users}
    for row in await tx.fetch(_LOAD, list(loaded)):
        _READERS[row[0]](loaded[row[1]], row)
    for rows in loaded.values():
        _sort(rows)
    return loaded


async def ensure_users(
    database: Database, users: Sequence[UserId], defaults: Sequence[DefaultRow]
) -> dict[UserId, UserRows]:
    """Create those who have no row, give the default rows to those who were never given them, and load all.

    Two statements for any number of users. The gift is a write: it raises the seq, and its rows carry it.
    Safe to repeat and to run for the same users at once: the rows are given once. Raises
    StorageUnavailable; "unknown" may have given them.
    """
    await database.run(_ENSURE, sorted(set(users)), *default_columns(defaults))
    return await load(database, users)


class Loader:
    """Joins loads that are asked for within a few milliseconds into one query.

    The queries run in the task group it was made with. A waiter that is cancelled hurts no other; a query
    that fails raises its error at everyone who waits for it. No answer is older than the question.
    """

    def __init__(self, database: Database, tasks: TaskGroup) -> None:
        limit = anyio.CapacityLimiter(_MAX_RUNNING)
        self._loads = _Gathering(lambda users: load(database, users), tasks, limit)

    async def load_one(self, user: UserId) -> UserRows:
        """What is stored of this user now. Creates nothing. Raises StorageUnavailable."""
        return await self._loads.one(user)


class _Gathering:
    """Waiters for users, gathered into batches for one function."""

    def __init__(
        self,
        run: Callable[[Sequence[UserId]], Awaitable[dict[UserId, UserRows]]],
        tasks: TaskGroup,
        limit: anyio.CapacityLimiter,
    ) -> None:
        self._run = run
        self._tasks = tasks
        self._limit = limit
        self._open: _Batch | None = None

    async def one(self, user: UserId) -> UserRows:
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
            self._tasks.start_soon(self._serve, batch, name="load users")
        batch.users[user] = None
        if len(batch.users) >= MAX_BATCH:
            self._close(batch)
        await batch.done.wait()
        if isinstance(batch.error, StorageUnavailable):
            # Each waiter's own: an exception that is raised in many places gathers all their traces.
            raise StorageUnavailable(batch.error.outcome, batch.error.reason) from batch.error
        if batch.error is not None:
            raise batch.error
        return batch.rows[user]

    def _close(self, batch: _Batch) -> None:
        """Whoever comes from now on is not in it: it may have been asked already."""
        batch.closed.set()
        if self._open is batch:
            self._open = None

    async def _serve(self, batch: _Batch) -> None:
        batch.error = StorageUnavailable("none", "shutting down")
        try:
            with anyio.move_on_after(_GATHER_S):
                await batch.closed.wait()
            async with self._limit:
                self._close(batch)
                batch.rows = await self._run(list(batch.users))
            batch.error = None
        except Exception as error:
            # Theirs who wait, each of whom raises it; the task group is everybody's.
            batch.error = error
        finally:
            self._close(batch)
            batch.done.set()


class _Batch:
    """Users whose rows one query brings, and then those rows or the error."""

    __slots__ = ("closed", "done", "error", "rows", "users")

    def __init__(self) -> None:
        self.users: dict[UserId, None] = {}
        self.rows: dict[UserId, UserRows] = {}
        self.error: Exception | None = None
        self.closed = anyio.Event()
        self.done = anyio.Event()


# kind, user, then columns by type: two names, two documents, bytes, a number, a flag, two times, three more
# that few kinds use.
_LOAD: Final = """
    SELECT 0 AS kind, user_id, NULL::text AS a, NULL::text AS b, NULL::jsonb AS doc, NULL::jsonb AS more,
        NULL::bytea AS raw, seq AS n, defaults_at IS NOT NULL AS flag,
        NULL::timestamptz AS t, NULL::timestamptz AS u, NULL::timestamptz AS v, NULL::integer AS place
    FROM users WHERE user_id = ANY ($1::text[])
    UNION ALL
    SELECT 1, user_id, source_id, NULL, config, NULL, credentials, version, enabled,
        updated_at, NULL, NULL, NULL
    FROM user_source_config WHERE user_id = ANY ($1::text[])
    UNION ALL
    SELECT 2, user_id, source_id, NULL, state, NULL, saved, NULL, NULL, saved_at, NULL, NULL, NULL
    FROM source_state WHERE user_id = ANY ($1::text[])
    UNION ALL
    SELECT 3, user_id, publisher, item_id, item, NULL, NULL, seq, NULL,
        expires_at, published_at, NULL, place
    FROM inbox_items WHERE user_id = ANY ($1::text[])
    UNION ALL
    SELECT 4, user_id, reminder_id, NULL, body, overrides, NULL, NULL, NULL,
        created_at, updated_at, NULL, NULL
    FROM reminders WHERE user_id = ANY ($1::text[])
    UNION ALL
    SELECT 5, user_id, item_id, NULL, NULL, NULL, hash, seq, NULL, until, dismissed_at, NULL, NULL
    FROM dismissals WHERE user_id = ANY ($1::text[])
    UNION ALL
    SELECT 6, user_id, leased_by, NULL, fills, synthetic, input_hash, NULL, NULL,
        hour, lease_until, stored_at, calls
    FROM enhancements WHERE user_id = ANY ($1::text[])"""
# The rows of one statement are locked in order of their ids, so that two of these never wait for each other.
_ENSURE: Final = """
    WITH given AS (
        INSERT INTO users (user_id, seq, defaults_at)
        SELECT asked.user_id, user_floor + 1, now()
        FROM unnest($1::text[]) AS asked (user_id), global_seq
        ORDER BY asked.user_id
        ON CONFLICT (user_id) DO UPDATE SET seq = users.seq + 1, defaults_at = now()
            WHERE users.defaults_at IS NULL
        RETURNING user_id, seq
    )
    INSERT INTO user_source_config (user_id, source_id, enabled, config, version)
    SELECT given.user_id, gift.source_id, gift.enabled, gift.config, given.seq
    FROM given, unnest($2::text[], $3::boolean[], $4::jsonb[]) AS gift (source_id, enabled, config)
    ON CONFLICT (user_id, source_id) DO NOTHING"""


def _read_user(rows: UserRows, row: Row) -> None:
    rows.exists = True
    rows.seq = row[7]
    rows.defaults_given = row[8]


def _read_config(rows: UserRows, row: Row) -> None:
    _, _, source, _, config, _, credentials, version, enabled, updated_at, _, _, _ = row
    rows.configs[source] = SourceConfigRow(
        source, enabled, object_from_jsonb(config), credentials, version, updated_at
    )


def _read_state(rows: UserRows, row: Row) -> None:
    _, _, source, _, state, _, saved, _, _, saved_at, _, _, _ = row
    rows.states[source] = StateRow(source, None if state is None else from_jsonb(state), saved, saved_at)


def _read_inbox(rows: UserRows, row: Row) -> None:
    _, _, publisher, item_id, item, _, _, seq, _, expires_at, published_at, _, place = row
    rows.inbox.append(
        InboxRow(publisher, item_id, object_from_jsonb(item), expires_at, published_at, (seq, place))
    )


def _read_reminder(rows: UserRows, row: Row) -> None:
    _, _, reminder, _, body, overrides, _, _, _, created_at, updated_at, _, _ = row
    rows.reminders.append(
        ReminderRow(reminder, object_from_jsonb(body), read_overrides(overrides), created_at, updated_at)
    )


def _read_dismissal(rows: UserRows, row: Row) -> None:
    _, _, item, _, _, _, content_hash, _, _, until, at, _, _ = row
    rows.dismissals.append(DismissalRow(item, content_hash, until, at))


def _read_enhancement(rows: UserRows, row: Row) -> None:
    _, _, leased_by, _, fills, synthetic, input_hash, _, _, hour, lease_until, stored_at, calls = row
    rows.enhancement = EnhancementRow(
        input_hash,
        object_from_jsonb(fills),
        read_synthetic(synthetic),
        stored_at,
        calls,
        hour,
        leased_by,
        lease_until,
    )


_READERS: Final = (
    _read_user,
    _read_config,
    _read_state,
    _read_inbox,
    _read_reminder,
    _read_dismissal,
    _read_enhancement,
)


def _sort(rows: UserRows) -> None:
    if len(rows.inbox) > 1:
        rows.inbox.sort(key=lambda row: row.order)
    if len(rows.reminders) > 1:
        rows.reminders.sort(key=lambda row: (row.created_at, row.id))
    if len(rows.dismissals) > 1:
        rows.dismissals.sort(key=lambda row: (row.at, row.item_id))
