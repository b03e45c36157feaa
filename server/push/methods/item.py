"""`item.*`: what services publish, and what users dismiss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from protocol.errors import RateLimited
from protocol.ids import UserId
from protocol.messages.item import ItemDismissParams, ItemPublishParams, ItemRetractParams
from server.push.endpoints import Call, Endpoint, Result, in_time
from server.push.limits import Allowances
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
        self._hub = rooms.hub
        options = rooms.hub.options
        self._allowances: Allowances[UserId] = Allowances(options.publishes_per_s, options.publish_burst)

    async def publish(self, call: Call, params: ItemPublishParams) -> Result:
        feeds = [UserId(feed) for feed in params.targets]
        self._allow(call.user, len(feeds))
        published = await self._items.publish(call.user, feeds, params.items)
        return {"accepted": published.accepted, "reachable": published.reachable}

    async def retract(self, call: Call, params: ItemRetractParams) -> Result:
        feeds = [UserId(feed) for feed in params.targets]
        self._allow(call.user, len(feeds))
        return {"removed": await self._items.retract(call.user, feeds, params.ids)}

    async def dismiss(self, call: Call, params: ItemDismissParams) -> Result:
        await self._items.dismiss(call.user, params.id)
        return {}

    def _allow(self, publisher: UserId, feeds: int) -> None:
        wait_s = self._allowances.take(publisher, self._hub.clock.monotonic(), feeds)
        if wait_s:
            self._hub.counters.rate_limited += 1
            self._hub.counters.limit("publishes_per_s")
            raise RateLimited(math.ceil(wait_s * 1000))
