"""`provider_settings`: what the operator set for a source, sealed like credentials. Belongs to no user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.ids import SourceId
from storage.connection import Reader, Row
from storage.database import WriteTx

__all__ = ["ProviderRow", "delete", "get", "list_", "put"]


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """`settings` is a ciphertext; `version` the global seq at the last write."""

    source_id: SourceId
    settings: bytes
    version: int
    updated_at: datetime


_COLUMNS: Final = "source_id, settings, version, updated_at"
_GET: Final = f"SELECT {_COLUMNS} FROM provider_settings WHERE source_id = $1"
_LIST: Final = f"SELECT {_COLUMNS} FROM provider_settings ORDER BY source_id"
_PUT: Final = f"""
    INSERT INTO provider_settings (source_id, settings, version) VALUES ($1, $2, $3)
    ON CONFLICT (source_id) DO UPDATE SET
        settings = excluded.settings, version = excluded.version, updated_at = now()
    RETURNING {_COLUMNS}"""
_DELETE: Final = "DELETE FROM provider_settings WHERE source_id = $1 RETURNING source_id"


async def get(tx: Reader, source: SourceId) -> ProviderRow | None:
    row = await tx.fetch_one(_GET, source)
    return None if row is None else _read(row)


async def list_(tx: Reader) -> list[ProviderRow]:
    return [_read(row) for row in await tx.fetch(_LIST)]


async def put(tx: WriteTx, source: SourceId, settings: bytes) -> ProviderRow:
    """Insert or replace, inside `Database.write_global`."""
    row = await tx.fetch_one(_PUT, source, settings, tx.seq)
    assert row is not None
    return _read(row)


async def delete(tx: WriteTx, source: SourceId) -> bool:
    """Back to what the environment says; whether there was a row."""
    return bool(await tx.run(_DELETE, source))


def _read(row: Row) -> ProviderRow:
    source, settings, version, updated_at = row
    return ProviderRow(source, settings, version, updated_at)
