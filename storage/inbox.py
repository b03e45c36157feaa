"""`inbox_items`: what backend services published for a user. An id is the publisher's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.frozen import JsonObject
from protocol.ids import UserId
from storage.connection import Reader, Row, Runner
from storage.database import WriteTx
from storage.jsonb import object_from_jsonb, to_jsonb

__all__ = ["MAX_ITEMS", "InboxItem", "InboxRow", "list_", "prune_expired", "publish", "retract"]

MAX_ITEMS: Final = 200  # of one user; then the oldest go


@dataclass(frozen=True, slots=True)
class InboxItem:
    """What is published: `item` as it came, checked by whoever accepted it."""

    id: str
    item: JsonObject
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A stored item. `order` sorts by publication: the user's seq at it, then the place within the call."""

    publisher: str
    id: str
    item: JsonObject
    expires_at: datetime | None
    published_at: datetime
    order: tuple[int, int]


_LIST: Final = """
    SELECT publisher, item_id, item, expires_at, published_at, seq, place
    FROM inbox_items WHERE user_id = $1 ORDER BY seq, place"""
# One statement, so one look at the table as it was: the incoming are not among the old ones yet.
_PUBLISH: Final = """
    WITH old AS (
        SELECT publisher, item_id, (expires_at <= now()) IS TRUE AS over,
            row_number() OVER (ORDER BY (expires_at <= now()) IS TRUE, seq DESC, place DESC) AS age
        FROM inbox_items
        WHERE user_id = $1 AND NOT (publisher = $2 AND item_id = ANY ($3::text[]))
    ), gone AS (
        DELETE FROM inbox_items USING old
        WHERE inbox_items.user_id = $1
            AND inbox_items.publisher = old.publisher AND inbox_items.item_id = old.item_id
            AND (old.over OR old.age > $7 - cardinality($3::text[]))
    )
    INSERT INTO inbox_items (user_id, publisher, item_id, item, expires_at, published_at, seq, place)
    SELECT $1, $2, new.item_id, new.item, new.expires_at, now(), $6, new.place
    FROM unnest($3::text[], $4::jsonb[], $5::timestamptz[])
        WITH ORDINALITY AS new (item_id, item, expires_at, place)
    ON CONFLICT (user_id, publisher, item_id) DO UPDATE SET
        item = excluded.item, expires_at = excluded.expires_at, published_at = excluded.published_at,
        seq = excluded.seq, place = excluded.place"""
_RETRACT: Final = """
    DELETE FROM inbox_items WHERE user_id = $1 AND publisher = $2 AND item_id = ANY ($3::text[])
    RETURNING item_id"""
# No seq is raised for this: every session has hidden these items at their time, and the hour is far more
# than the clocks of two machines differ.
_PRUNE: Final = """
    DELETE FROM inbox_items WHERE (user_id, publisher, item_id) IN (
        SELECT user_id, publisher, item_id FROM inbox_items
        WHERE expires_at < now() - interval '1 hour' LIMIT $1)
    RETURNING item_id"""


async def publish(tx: WriteTx, user: UserId, publisher: str, items: Sequence[InboxItem]) -> int:
    """Store these items; how many. An id that is there already is replaced and counts as new.

    Of an id given twice the last holds. What has expired goes, and beyond `MAX_ITEMS` the oldest.
    """
    newest = list({item.id: item for item in items}.values())[-MAX_ITEMS:]
    if newest:
        await tx.run(
            _PUBLISH,
            user,
            publisher,
            [item.id for item in newest],
            [to_jsonb(item.item) for item in newest],
            [item.expires_at for item in newest],
            tx.seq,
            MAX_ITEMS,
        )
    return len(newest)


async def retract(tx: WriteTx, user: UserId, publisher: str, ids: Sequence[str]) -> int:
    """Take back items of this publisher; how many there were."""
    return len(await tx.run(_RETRACT, user, publisher, list(ids)))


async def list_(tx: Reader, user: UserId) -> list[InboxRow]:
    """Oldest publication first; expired ones that are not pruned yet among them."""
    return [_read(row) for row in await tx.fetch(_LIST, user)]


async def prune_expired(database: Runner, limit: int = 1000) -> int:
    """Delete up to `limit` items, of any user, that expired an hour ago; how many. For a slow, rare timer."""
    return len(await database.run(_PRUNE, limit))


def _read(row: Row) -> InboxRow:
    publisher, item_id, item, expires_at, published_at, seq, place = row
    return InboxRow(publisher, item_id, object_from_jsonb(item), expires_at, published_at, (seq, place))
