"""`action_results`: an action that comes with a key is done once; a repeat gets the first answer.

Two ways, by what the action does. Where all it does is write our own rows, `remember` the answer in the same
transaction: both are there or neither. Where it reaches outside, `claim` the key first and `finish` it
after: whoever repeats meanwhile, on whatever replica, learns that it is running.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.frozen import JsonValue
from protocol.ids import ReplicaId, UserId
from storage.connection import Reader, Runner
from storage.database import WriteTx
from storage.jsonb import from_jsonb, to_jsonb

__all__ = ["KEPT_H", "Claim", "claim", "finish", "get", "prune", "release", "remember"]

KEPT_H: Final = 24


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of a claim: it is "mine" to do, "running" elsewhere, or "done" with `answer`."""

    state: Literal["mine", "running", "done"]
    answer: JsonValue = None


# An answer older than it is kept counts as none, whether pruned or not.
_YOUNG: Final = "created_at > now() - make_interval(hours => 24)"
_GET: Final = f"SELECT answer FROM action_results WHERE user_id = $1 AND key = $2 AND {_YOUNG}"
# Unfinished and past its lease: the holder is gone, the next may try.
_CLAIM: Final = """
    INSERT INTO action_results AS stored (user_id, key, claimed_by, lease_until)
    VALUES ($1, $2, $3, now() + make_interval(secs => $4))
    ON CONFLICT (user_id, key) DO UPDATE SET
        answer = NULL, created_at = now(),
        claimed_by = excluded.claimed_by, lease_until = excluded.lease_until
    WHERE stored.created_at <= now() - make_interval(hours => 24)
        OR (stored.answer IS NULL AND stored.lease_until <= now())
    RETURNING key"""
_FINISH: Final = """
    UPDATE action_results SET answer = $4
    WHERE user_id = $1 AND key = $2 AND claimed_by = $3 AND answer IS NULL
    RETURNING key"""
_RELEASE: Final = """
    DELETE FROM action_results WHERE user_id = $1 AND key = $2 AND claimed_by = $3 AND answer IS NULL"""
_REMEMBER: Final = """
    INSERT INTO action_results AS stored (user_id, key, answer, claimed_by, lease_until)
    VALUES ($1, $2, $3, '', now())
    ON CONFLICT (user_id, key) DO UPDATE SET answer = excluded.answer, created_at = now()
    WHERE stored.answer IS NULL OR stored.created_at <= now() - make_interval(hours => 24)
    RETURNING answer"""
_PRUNE: Final = """
    DELETE FROM action_results WHERE (user_id, key) IN (
        SELECT user_id, key FROM action_results
        WHERE created_at <= now() - make_interval(hours => 24) LIMIT $1)
    RETURNING key"""


async def get(tx: Reader, user: UserId, key: str) -> Claim | None:
    """What is known of this key: "running", "done" with the answer, or None."""
    row = await tx.fetch_one(_GET, user, key)
    if row is None:
        return None
    return Claim("running") if row[0] is None else Claim("done", from_jsonb(row[0]))


async def claim(database: Runner, user: UserId, key: str, replica: ReplicaId, ttl_s: float) -> Claim:
    """Ask to be the one who does it. Of any number of callers, one gets "mine".

    Its claim ends after `ttl_s` if it neither finishes nor releases it. Raises NoRow where the user has no
    row.
    """
    while True:
        if await database.run(_CLAIM, user, key, replica, ttl_s):
            return Claim("mine")
        known = await get(database, user, key)
        if known is not None:
            return known
        # Released or pruned between the two statements: it is free again.


async def finish(database: Runner, user: UserId, key: str, replica: ReplicaId, answer: JsonValue) -> bool:
    """Store the answer of what was claimed. False where the claim is another's by now."""
    return bool(await database.run(_FINISH, user, key, replica, to_jsonb(answer)))


async def release(database: Runner, user: UserId, key: str, replica: ReplicaId) -> None:
    """Give a claim back because nothing was done, so that a repeat tries anew."""
    await database.run(_RELEASE, user, key, replica)


async def remember(tx: WriteTx, user: UserId, key: str, answer: JsonValue) -> JsonValue:
    """Store the answer unless there is one, and return the one that stands: the first."""
    row = await tx.fetch_one(_REMEMBER, user, key, to_jsonb(answer))
    if row is not None:
        return from_jsonb(row[0])
    first = await get(tx, user, key)
    assert first is not None
    return first.answer


async def prune(database: Runner, limit: int = 1000) -> int:
    """Delete up to `limit` answers older than `KEPT_H` hours; how many. For a slow, rare timer."""
    return len(await database.run(_PRUNE, limit))
