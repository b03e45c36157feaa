"""`enhancements`: the last answer of the language model for a user, its budget, and whose turn it is.

The lease keeps replicas from asking twice. It and the budget are changed without raising the user's seq,
since nobody sees them; the answer itself is a write like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from protocol.frozen import JsonObject
from protocol.ids import ReplicaId, UserId
from storage.connection import Reader, Row, Runner
from storage.database import WriteTx
from storage.jsonb import from_jsonb, object_from_jsonb, to_jsonb

__all__ = ["EnhancementRow", "get", "read_synthetic", "release", "store", "try_lease"]


@dataclass(frozen=True, slots=True)
class EnhancementRow:
    """`input_hash` is what `fills` and `synthetic` answer (None: nothing stored yet).

    `calls` were made in the hour that began at `hour`; `leased_by` may run until `lease_until`.
    """

    input_hash: bytes | None
    fills: JsonObject
    synthetic: Sequence[JsonObject]
    stored_at: datetime | None
    calls: int
    hour: datetime
    leased_by: ReplicaId | None
    lease_until: datetime | None


_GET: Final = """
    SELECT input_hash, fills, synthetic, stored_at, calls, hour, leased_by, lease_until
    FROM enhancements WHERE user_id = $1"""
_LEASE: Final = """
    INSERT INTO enhancements AS stored (user_id, calls, hour, leased_by, lease_hash, lease_until)
    SELECT user_id, 1, date_trunc('hour', now()), $2, $3, now() + make_interval(secs => $4)
    FROM users WHERE user_id = $1 AND $5 > 0
    ON CONFLICT (user_id) DO UPDATE SET
        calls = CASE WHEN stored.hour = excluded.hour THEN stored.calls + 1 ELSE 1 END,
        hour = excluded.hour,
        leased_by = excluded.leased_by,
        lease_hash = excluded.lease_hash,
        lease_until = excluded.lease_until
    WHERE (stored.lease_until IS NULL OR stored.lease_until <= now())
        AND stored.input_hash IS DISTINCT FROM $3
        AND (stored.hour <> excluded.hour OR stored.calls < $5)
    RETURNING user_id"""
_RELEASE: Final = """
    UPDATE enhancements SET leased_by = NULL, lease_hash = NULL, lease_until = NULL
    WHERE user_id = $1 AND leased_by = $2 AND lease_hash = $3"""
_STORE: Final = """
    UPDATE enhancements SET
        input_hash = $3, fills = $4, synthetic = $5, stored_at = now(),
        leased_by = NULL, lease_hash = NULL, lease_until = NULL
    WHERE user_id = $1 AND leased_by = $2 AND lease_hash = $3
    RETURNING user_id"""


async def get(tx: Reader, user: UserId) -> EnhancementRow | None:
    row = await tx.fetch_one(_GET, user)
    return None if row is None else _read(row)


async def try_lease(
    database: Runner,
    user: UserId,
    replica: ReplicaId,
    input_hash: bytes,
    ttl_s: float,
    *,
    calls_per_hour: int,
) -> bool:
    """Take the turn to answer `input_hash`, and count it as a call. One caller anywhere gets True.

    False while another's lease runs, where the answer is stored already, where the hour's calls are used
    up, or where the user has no row. A crashed holder's lease ends by itself after `ttl_s`.
    """
    taken = await database.run(_LEASE, user, replica, input_hash, ttl_s, calls_per_hour)
    return bool(taken)


async def release(database: Runner, user: UserId, replica: ReplicaId, input_hash: bytes) -> None:
    """Give the turn back without an answer; the call stays counted. Nothing if it is not ours any more."""
    await database.run(_RELEASE, user, replica, input_hash)


async def store(
    tx: WriteTx,
    user: UserId,
    replica: ReplicaId,
    input_hash: bytes,
    fills: JsonObject,
    synthetic: Sequence[JsonObject],
) -> bool:
    """Store the answer and end the lease. False, and nothing done, where the lease is another's by now."""
    stored = await tx.run(_STORE, user, replica, input_hash, to_jsonb(fills), to_jsonb(synthetic))
    return bool(stored)


def read_synthetic(text: str) -> Sequence[JsonObject]:
    """The column as it is typed here: only `store` writes it."""
    return cast("Sequence[JsonObject]", from_jsonb(text))


def _read(row: Row) -> EnhancementRow:
    input_hash, fills, synthetic, stored_at, calls, hour, leased_by, lease_until = row
    return EnhancementRow(
        input_hash,
        object_from_jsonb(fills),
        read_synthetic(synthetic),
        stored_at,
        calls,
        hour,
        leased_by,
        lease_until,
    )
