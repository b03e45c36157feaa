"""`provider.*`: operator settings of the sources' providers."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.messages.base import NoParams
from protocol.messages.provider import ProviderReplaceParams
from server.push.endpoints import Call, Endpoint, Result, at_once, in_time
from server.push.methods.rooms import Rooms

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    provider = _Provider(rooms)
    return (
        at_once("provider.list", NoParams, provider.list_),
        in_time("provider.replace", ProviderReplaceParams, provider.replace),
    )


class _Provider:
    def __init__(self, rooms: Rooms) -> None:
        self._providers = rooms.providers

    def list_(self, call: Call, params: NoParams) -> Result:
        return {"providers": self._providers.list_states()}

    async def replace(self, call: Call, params: ProviderReplaceParams) -> Result:
        replaced = await self._providers.replace(params.source_id, params.settings)
        return {"refreshed": replaced.refreshed, "kept": replaced.kept}
