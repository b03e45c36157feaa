"""`user.*`: what operators may see and do about one user."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.ids import UserId
from protocol.messages.user import UserParams, UserRevokeParams
from server.push.endpoints import Call, Endpoint, Result, in_time
from server.push.inspection import inspect_user
from server.push.methods.rooms import Rooms

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    user = _User(rooms)
    return (
        in_time("user.inspect", UserParams, user.inspect),
        in_time("user.revoke", UserRevokeParams, user.revoke),
        in_time("user.delete", UserParams, user.delete),
    )


class _User:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def inspect(self, call: Call, params: UserParams) -> Result:
        user = UserId(params.user)
        others, unreachable = await self._rooms.replicas.inspect(user)
        here = inspect_user(user, self._rooms.hub, self._rooms.registry, self._rooms.manager)
        return {"replicas": [here, *others], "unreachable": unreachable}

    async def revoke(self, call: Call, params: UserRevokeParams) -> Result:
        return {"closed": await self._rooms.users.revoke(UserId(params.user), params.issued_before)}

    async def delete(self, call: Call, params: UserParams) -> Result:
        await self._rooms.users.delete(UserId(params.user))
        return {}
