"""`dismissals`: items a user does not want to see again until their content changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.ids import UserId
from storage.connection import Reader, Row
from storage.database import WriteTx

__all__ = ["MAX_DISMISSALS", "DismissalRow", "add", "list_"]

MAX_DISMISSALS: Final = 500  # of one user; then the oldest go


@dataclass(frozen=True, slots=True)
class DismissalRow:
    """Holds while the item's hash is `hash`, and not beyond `until` where that is set."""

    item_id: str
    hash: bytes
    until: datetime | None
    at: datetime


_LIST: Final = """
    SELECT item_id, hash, until, dismissed_at FROM dismissals WHERE user_id = $1 ORDER BY seq, item_id"""
# One statement, so one look at the table as it was: the new one is not among the old ones yet.
_ADD: Final = """
    WITH old AS (
        SELECT item_id, (until <= now()) IS TRUE AS over,
            row_number() OVER (ORDER BY (until <= now()) IS TRUE, seq DESC, item_id DESC) AS age
        FROM dismissals WHERE user_id = $1 AND item_id <> $2
    ), gone AS (
        DELETE FROM dismissals USING old
        WHERE dismissals.user_id = $1 AND dismissals.item_id = old.item_id
            AND (old.over OR old.age >= $6)
    )
    INSERT INTO dismissals (user_id, item_id, hash, until, seq) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (user_id, item_id) DO UPDATE SET
        hash = excluded.hash, until = excluded.until, dismissed_at = now(), seq = excluded.seq"""


async def add(tx: WriteTx, user: UserId, item: str, content_hash: bytes, until: datetime | None) -> None:
    """Dismiss an item (again). What is over goes, and beyond `MAX_DISMISSALS` the oldest."""
    await tx.run(_ADD, user, item, content_hash, until, tx.seq, MAX_DISMISSALS)


async def list_(tx: Reader, user: UserId) -> list[DismissalRow]:
    """Oldest first; those that are over and not cleared away yet among them."""
    return [_read(row) for row in await tx.fetch(_LIST, user)]


def _read(row: Row) -> DismissalRow:
    item, content_hash, until, at = row
    return DismissalRow(item, content_hash, until, at)
