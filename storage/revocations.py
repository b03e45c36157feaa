"""`revocations`: from when on a user's tokens must have been issued to be good. Outlive the user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.ids import UserId
from storage.connection import Reader, Row
from storage.database import WriteTx

__all__ = ["RevocationRow", "changed_since", "get", "put"]


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """Tokens of `user` from before `issued_before` are refused. `version` is the global seq of the write."""

    user: UserId
    issued_before: datetime
    version: int


_COLUMNS: Final = "user_id, issued_before, version"
_GET: Final = f"SELECT {_COLUMNS} FROM revocations WHERE user_id = $1"
_SINCE: Final = f"SELECT {_COLUMNS} FROM revocations WHERE version > $1 ORDER BY version"
_PUT: Final = f"""
    INSERT INTO revocations AS stored (user_id, issued_before, version) VALUES ($1, $2, $3)
    ON CONFLICT (user_id) DO UPDATE SET
        issued_before = greatest(stored.issued_before, excluded.issued_before),
        version = excluded.version, revoked_at = now()
    RETURNING {_COLUMNS}"""


async def get(tx: Reader, user: UserId) -> RevocationRow | None:
    row = await tx.fetch_one(_GET, user)
    return None if row is None else _read(row)


async def changed_since(tx: Reader, seq: int) -> list[RevocationRow]:
    """All that were written after that global seq, in order; 0 gives all."""
    return [_read(row) for row in await tx.fetch(_SINCE, seq)]


async def put(tx: WriteTx, user: UserId, issued_before: datetime) -> RevocationRow:
    """Revoke, inside `Database.write_global`. Of two revocations the later time holds."""
    row = await tx.fetch_one(_PUT, user, issued_before, tx.seq)
    assert row is not None
    return _read(row)


def _read(row: Row) -> RevocationRow:
    user, issued_before, version = row
    return RevocationRow(user, issued_before, version)
