"""`user_source_config`: which sources a user has, how they are set, and their sealed credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from protocol.frozen import JsonObject
from protocol.ids import SourceId, UserId
from storage.connection import Reader, Row
from storage.database import WriteTx
from storage.errors import VersionMismatch
from storage.jsonb import object_from_jsonb, to_jsonb

__all__ = [
    "KEEP",
    "DefaultRow",
    "Keep",
    "SourceConfigRow",
    "default_columns",
    "delete",
    "get",
    "give_defaults",
    "list_",
    "put",
    "require_version",
]


class Keep(Enum):
    """What stands for "as stored" where None means "none"."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class SourceConfigRow:
    """`credentials` is a ciphertext (see `credentials`); `version` the user's seq at the last write."""

    source_id: SourceId
    enabled: bool
    config: JsonObject
    credentials: bytes | None
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DefaultRow:
    """What a new user is given."""

    source_id: SourceId
    enabled: bool
    config: JsonObject


_COLUMNS: Final = "source_id, enabled, config, credentials, version, updated_at"
_GET: Final = f"SELECT {_COLUMNS} FROM user_source_config WHERE user_id = $1 AND source_id = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM user_source_config WHERE user_id = $1 ORDER BY source_id"
_PUT: Final = f"""
    INSERT INTO user_source_config AS stored (user_id, source_id, enabled, config, credentials, version)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (user_id, source_id) DO UPDATE SET
        enabled = excluded.enabled,
        config = excluded.config,
        credentials = CASE WHEN $7 THEN stored.credentials ELSE excluded.credentials END,
        version = excluded.version,
        updated_at = now()
    RETURNING {_COLUMNS}"""
_DELETE: Final = "DELETE FROM user_source_config WHERE user_id = $1 AND source_id = $2 RETURNING source_id"
_MARK: Final = "UPDATE users SET defaults_at = now() WHERE user_id = $1 AND defaults_at IS NULL RETURNING seq"
_GIVE: Final = """
    INSERT INTO user_source_config (user_id, source_id, enabled, config, version)
    SELECT $1, given.source_id, given.enabled, given.config, $2
    FROM unnest($3::text[], $4::boolean[], $5::jsonb[]) AS given (source_id, enabled, config)
    ON CONFLICT (user_id, source_id) DO NOTHING"""


async def get(tx: Reader, user: UserId, source: SourceId) -> SourceConfigRow | None:
    row = await tx.fetch_one(_GET, user, source)
    return None if row is None else _read(row)


async def list_(tx: Reader, user: UserId) -> list[SourceConfigRow]:
    return [_read(row) for row in await tx.fetch(_LIST, user)]


async def put(
    tx: WriteTx,
    user: UserId,
    source: SourceId,
    enabled: bool,
    config: JsonObject,
    credentials: bytes | Keep | None,
) -> SourceConfigRow:
    """Insert or replace; the row as it is now stored, with `tx.seq` as its version."""
    keep = isinstance(credentials, Keep)
    sealed = None if keep else credentials
    row = await tx.fetch_one(_PUT, user, source, enabled, to_jsonb(config), sealed, tx.seq, keep)
    assert row is not None
    return _read(row)


async def delete(tx: WriteTx, user: UserId, source: SourceId) -> bool:
    """Erase the row and its credentials; whether there was one."""
    return bool(await tx.run(_DELETE, user, source))


async def give_defaults(tx: WriteTx, user: UserId, defaults: Sequence[DefaultRow]) -> bool:
    """The first rows of a user, given once for ever: what is deleted later stays deleted.

    False, and nothing done, where they were given before. Rows that are there already stay as they are.
    """
    if not await tx.run(_MARK, user):
        return False
    await tx.run(_GIVE, user, tx.seq, *default_columns(defaults))
    return True


def default_columns(defaults: Sequence[DefaultRow]) -> tuple[list[SourceId], list[bool], list[str]]:
    """Default rows as the arrays that statements take."""
    return (
        [row.source_id for row in defaults],
        [row.enabled for row in defaults],
        [to_jsonb(row.config) for row in defaults],
    )


def require_version(row: SourceConfigRow | None, version: int | None) -> None:
    """Raise VersionMismatch unless the row is at `version` (None: whatever; 0: there is no row)."""
    current = 0 if row is None else row.version
    if version is not None and version != current:
        raise VersionMismatch(current)


def _read(row: Row) -> SourceConfigRow:
    source, enabled, config, credentials, version, updated_at = row
    return SourceConfigRow(source, enabled, object_from_jsonb(config), credentials, version, updated_at)
