"""`source_state`: what a source itself remembers, and what it last showed.

`state` is the source's durable state (the last reported location, say) and is written in the user's order.
`saved` is a copy of its last good items and context, kept only so that a restart blanks nobody's screen:
whoever writes last wins, losing one costs a moment's freshness, and no seq is raised for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from storage.connection import Reader, Row, Runner
from storage.database import WriteTx
from storage.errors import NoRow, StorageUnavailable
from storage.jsonb import from_jsonb, to_jsonb

__all__ = [
    "MAX_SAVED_BYTES",
    "StateRow",
    "delete",
    "get",
    "list_",
    "put_state",
    "put_state_at_once",
    "save",
    "save_many",
]

MAX_SAVED_BYTES: Final = 256 * 1024  # of one user, all sources together
_CHUNK_BYTES: Final = 4 * 1024 * 1024  # of one statement that saves many users


@dataclass(frozen=True, slots=True)
class StateRow:
    """`state` is None where the source has none; `saved` and `saved_at` are None together."""

    source_id: SourceId
    state: JsonValue
    saved: bytes | None
    saved_at: datetime | None


_COLUMNS: Final = "source_id, state, saved, saved_at"
_GET: Final = f"SELECT {_COLUMNS} FROM source_state WHERE user_id = $1 AND source_id = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM source_state WHERE user_id = $1 ORDER BY source_id"
_DELETE: Final = "DELETE FROM source_state WHERE user_id = $1 AND source_id = $2 RETURNING source_id"
_PUT: Final = """
    INSERT INTO source_state (user_id, source_id, state, updated_at) VALUES ($1, $2, $3, now())
    ON CONFLICT (user_id, source_id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at"""
_PUT_AT_ONCE: Final = """
    WITH raised AS (UPDATE users SET seq = seq + 1 WHERE user_id = $1 RETURNING user_id, seq), put AS (
        INSERT INTO source_state (user_id, source_id, state, updated_at)
        SELECT user_id, $2, $3, now() FROM raised
        ON CONFLICT (user_id, source_id)
            DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at
    )
    SELECT seq FROM raised"""
_SAVE: Final = """
    INSERT INTO source_state (user_id, source_id, saved, saved_at)
    SELECT given.user_id, given.source_id, given.saved, now()
    FROM unnest($1::text[], $2::text[], $3::bytea[]) AS given (user_id, source_id, saved)
    JOIN users ON users.user_id = given.user_id
    ORDER BY given.user_id, given.source_id
    ON CONFLICT (user_id, source_id) DO UPDATE SET saved = excluded.saved, saved_at = excluded.saved_at"""


async def get(tx: Reader, user: UserId, source: SourceId) -> StateRow | None:
    row = await tx.fetch_one(_GET, user, source)
    return None if row is None else _read(row)


async def list_(tx: Reader, user: UserId) -> list[StateRow]:
    return [_read(row) for row in await tx.fetch(_LIST, user)]


async def put_state(tx: WriteTx, user: UserId, source: SourceId, state: JsonValue) -> None:
    """Replace the source's own state; what is saved beside it stays."""
    await tx.run(_PUT, user, source, to_jsonb(state))


async def put_state_at_once(database: Runner, user: UserId, source: SourceId, state: JsonValue) -> int | None:
    """The same as a whole write of its own in one round trip: the user's new seq.

    For what changes often and alone, a location. None, and nothing written, where the user has no row yet:
    then it takes a `Database.write`. Raises StorageUnavailable like `Database.run`.
    """
    rows = await database.run(_PUT_AT_ONCE, user, source, to_jsonb(state))
    return int(rows[0][0]) if rows else None


async def save(database: Runner, user: UserId, saved: Mapping[SourceId, bytes]) -> bool:
    """Keep what these sources show, best effort: False where it could not be stored now. See `save_many`."""
    return await save_many(database, {user: saved})


async def save_many(database: Runner, users: Mapping[UserId, Mapping[SourceId, bytes]]) -> bool:
    """The same for many users in few statements (a drain). False where some could not be stored.

    Of one user's sources at most `MAX_SAVED_BYTES` are kept, the small ones first. Users without a row are
    left out. Safe to repeat and to cancel.
    """
    complete = True
    for chunk in _chunks(users):
        try:
            await database.run(_SAVE, *chunk)
        except (StorageUnavailable, NoRow):
            complete = False
    return complete


async def delete(tx: WriteTx, user: UserId, source: SourceId) -> bool:
    """Erase state and saved items of a source; whether there were any."""
    return bool(await tx.run(_DELETE, user, source))


def _chunks(
    users: Mapping[UserId, Mapping[SourceId, bytes]],
) -> Iterator[tuple[list[UserId], list[SourceId], list[bytes]]]:
    """The arguments of the statements to run, each of a bounded size."""
    entries: list[tuple[UserId, SourceId, bytes]] = []
    size = 0
    for user, saved in users.items():
        for source, blob in _fitting(saved):
            entries.append((user, source, blob))
            size += len(blob)
        if size >= _CHUNK_BYTES:
            yield _columns(entries)
            entries, size = [], 0
    if entries:
        yield _columns(entries)


def _fitting(saved: Mapping[SourceId, bytes]) -> Iterator[tuple[SourceId, bytes]]:
    room = MAX_SAVED_BYTES
    for source, blob in sorted(saved.items(), key=lambda entry: len(entry[1])):
        room -= len(blob)
        if room >= 0:
            yield source, blob


def _columns(
    entries: Sequence[tuple[UserId, SourceId, bytes]],
) -> tuple[list[UserId], list[SourceId], list[bytes]]:
    return (
        [user for user, _, _ in entries],
        [source for _, source, _ in entries],
        [blob for *_, blob in entries],
    )


def _read(row: Row) -> StateRow:
    source, state, saved, saved_at = row
    return StateRow(source, None if state is None else from_jsonb(state), saved, saved_at)
