"""`users`: who there is. The row itself is made by the first write, see `database`."""

from __future__ import annotations

from typing import Final

from protocol.ids import UserId
from storage.connection import Reader
from storage.database import WriteTx

__all__ = ["delete_everything", "exists"]

_EXISTS: Final = "SELECT 1 FROM users WHERE user_id = $1"
# Everything that is keyed by the user goes with the row.
_DELETE: Final = "DELETE FROM users WHERE user_id = $1"
_RAISE_FLOOR: Final = "UPDATE global_seq SET user_floor = greatest(user_floor, $1)"


async def exists(tx: Reader, user: UserId) -> bool:
    return await tx.fetch_one(_EXISTS, user) is not None


async def delete_everything(tx: WriteTx, user: UserId) -> None:
    """Erase all of the user's rows, but for revocations, which must go on refusing their tokens.

    Should the user come back, their seq starts above every one they had, so that no session takes the new
    user for the old.
    """
    await tx.run(_DELETE, user)
    await tx.run(_RAISE_FLOOR, tx.seq)
