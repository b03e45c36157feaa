"""`user.revoke` and `user.delete`: an operator's writes about one user, felt on every replica."""

from __future__ import annotations

from datetime import datetime

from anyio import CancelScope

from protocol.errors import StorageUnavailableError
from protocol.ids import UserId
from server.session.manager import SessionManager
from storage import revocations, users
from storage.database import WriteTx
from storage.errors import StorageUnavailable, Unchanged

__all__ = ["UserWrites"]


class UserWrites:
    """What an operator does about a user. Who is one is decided before."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def revoke(self, user: UserId, issued_before: datetime | None = None) -> int:
        """Refuses the user's tokens issued before then (default: now), everywhere and for good; how many
        sockets were closed for it here. Never takes an earlier revocation back. Raises
        StorageUnavailableError."""
        before = self._manager.setup.clock.now() if issued_before is None else issued_before

        async def put(tx: WriteTx) -> None:
            await revocations.put(tx, user, before)

        try:
            await self._manager.write_global(put)
        except StorageUnavailable as problem:
            raise StorageUnavailableError(problem.outcome) from problem
        return self._manager.operator.closed_for(user)

    async def delete(self, user: UserId) -> None:
        """Erases everything of the user but revocations; sessions end on every replica, with reason "gone".

        A user who is not there is what was wanted. Raises StorageUnavailableError.
        """

        async def erase(tx: WriteTx) -> None:
            await users.delete_everything(tx, user)

        try:
            if not await users.exists(self._manager.setup.database, user):
                return
            with CancelScope() as scope:
                await self._manager.write(user, erase)
                scope.shield = True
                # Also one that is being made, from rows that are no more.
                await self._manager.remove(user, "gone")
        except Unchanged:
            return
        except StorageUnavailable as problem:
            raise StorageUnavailableError(problem.outcome) from problem
