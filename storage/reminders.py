"""`reminders`: what a user wants to be reminded of, with what was done to single occurrences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from protocol.frozen import JsonObject
from protocol.ids import UserId
from storage.connection import Reader, Row
from storage.database import WriteTx
from storage.errors import LimitReached, NoRow
from storage.jsonb import object_from_jsonb, to_jsonb

__all__ = ["MAX_REMINDERS", "ReminderRow", "create", "delete", "get", "list_", "read_overrides", "update"]

MAX_REMINDERS: Final = 1000  # of one user: all are read with every session


@dataclass(frozen=True, slots=True)
class ReminderRow:
    """`body` is the reminder as its source wrote it; `overrides` the occurrences that differ, by time."""

    id: str
    body: JsonObject
    overrides: Mapping[str, JsonObject]
    created_at: datetime
    updated_at: datetime


_COLUMNS: Final = "reminder_id, body, overrides, created_at, updated_at"
_GET: Final = f"SELECT {_COLUMNS} FROM reminders WHERE user_id = $1 AND reminder_id = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM reminders WHERE user_id = $1 ORDER BY created_at, reminder_id"
_CREATE: Final = f"""
    INSERT INTO reminders (user_id, reminder_id, body)
    SELECT $1, $2, $3 WHERE (SELECT count(*) FROM reminders WHERE user_id = $1) < $4
    RETURNING {_COLUMNS}"""
_UPDATE: Final = f"""
    UPDATE reminders
    SET body = coalesce($3, body), overrides = coalesce($4, overrides), updated_at = now()
    WHERE user_id = $1 AND reminder_id = $2
    RETURNING {_COLUMNS}"""
_DELETE: Final = "DELETE FROM reminders WHERE user_id = $1 AND reminder_id = $2 RETURNING reminder_id"


async def create(tx: WriteTx, user: UserId, reminder: str, body: JsonObject) -> ReminderRow:
    """Store a new one under an id that is not taken. Raises LimitReached at `MAX_REMINDERS`."""
    row = await tx.fetch_one(_CREATE, user, reminder, to_jsonb(body), MAX_REMINDERS)
    if row is None:
        raise LimitReached("reminders", MAX_REMINDERS)
    return _read(row)


async def update(
    tx: WriteTx,
    user: UserId,
    reminder: str,
    *,
    body: JsonObject | None = None,
    overrides: Mapping[str, JsonObject] | None = None,
) -> ReminderRow:
    """Replace what is given, keep the rest. Raises NoRow."""
    row = await tx.fetch_one(
        _UPDATE,
        user,
        reminder,
        None if body is None else to_jsonb(body),
        None if overrides is None else to_jsonb(overrides),
    )
    if row is None:
        raise NoRow(f"no reminder {reminder!r}")
    return _read(row)


async def delete(tx: WriteTx, user: UserId, reminder: str) -> bool:
    """Whether there was one."""
    return bool(await tx.run(_DELETE, user, reminder))


async def get(tx: Reader, user: UserId, reminder: str) -> ReminderRow | None:
    row = await tx.fetch_one(_GET, user, reminder)
    return None if row is None else _read(row)


async def list_(tx: Reader, user: UserId) -> list[ReminderRow]:
    """Oldest first."""
    return [_read(row) for row in await tx.fetch(_LIST, user)]


def _read(row: Row) -> ReminderRow:
    reminder, body, overrides, created_at, updated_at = row
    return ReminderRow(reminder, object_from_jsonb(body), read_overrides(overrides), created_at, updated_at)


def read_overrides(text: str) -> Mapping[str, JsonObject]:
    """The column as it is typed here: only `update` writes it."""
    return cast("Mapping[str, JsonObject]", object_from_jsonb(text))
