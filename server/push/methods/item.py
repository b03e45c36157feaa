"""`item.*`: what services publish, and what users dismiss."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.ids import UserId
from protocol.messages.item import ItemDismissParams, ItemPublishParams, ItemRetractParams
from server.push.endpoints import Call, Endpoint, Result, in_time
from server.push.methods.rooms import Rooms

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    item = _Item(rooms)
    return (
        in_time("item.publish", ItemPublishParams, item.publish),
        in_time("item.retract", ItemRetractParams, item.retract),
        in_time("item.dismiss", ItemDismissParams, item.dismiss),
    )


class _Item:
    def __init__(self, rooms: Rooms) -> None:
        self._items = rooms.items

    async def publish(self, call: Call, params: ItemPublishParams) -> Result:
        feeds = [UserId(feed) for feed in params.targets]
        published = await self._items.publish(call.user, feeds, params.items)
        return {"accepted": published.accepted, "reachable": published.reachable}

    async def retract(self, call: Call, params: ItemRetractParams) -> Result:
        feeds = [UserId(feed) for feed in params.targets]
        return {"removed": await self._items.retract(call.user, feeds, params.ids)}

    async def dismiss(self, call: Call, params: ItemDismissParams) -> Result:
        await self._items.dismiss(call.user, params.id)
        return {}
