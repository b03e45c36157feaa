"""`source.*` and `action.*`: a user's settings, and what sources can be asked to do."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from protocol.ids import UserId
from protocol.messages.source import (
    ActionExecuteParams,
    SourceAuthorizeParams,
    SourceDeleteParams,
    SourceGetParams,
    SourceListParams,
    SourcePatchParams,
    SourcePreviewParams,
    SourcePutParams,
)
from server.push.endpoints import Call, Endpoint, Result, in_time
from server.push.methods.rooms import Rooms

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    source = _Source(rooms)
    return (
        in_time("source.list", SourceListParams, source.list_),
        in_time("source.get", SourceGetParams, source.get),
        in_time("source.patch", SourcePatchParams, source.patch),
        in_time("source.put", SourcePutParams, source.put),
        in_time("source.authorize", SourceAuthorizeParams, source.authorize),
        in_time("source.delete", SourceDeleteParams, source.delete),
        in_time("source.preview", SourcePreviewParams, source.preview),
        in_time("action.execute", ActionExecuteParams, source.execute, acts=True),
    )


class _Source:
    def __init__(self, rooms: Rooms) -> None:
        self._sources = rooms.sources
        self._actions = rooms.actions

    async def list_(self, call: Call, params: SourceListParams) -> Result:
        user = _whose(call, params.user)
        return {"sources": await self._sources.list_states(user, schemas=params.schemas)}

    async def get(self, call: Call, params: SourceGetParams) -> Result:
        user = _whose(call, params.user)
        return await self._sources.get_state(user, params.source_id, schemas=params.schemas)

    async def patch(self, call: Call, params: SourcePatchParams) -> Result:
        return await self._sources.patch(
            _whose(call, params.user),
            params.source_id,
            enabled=params.enabled,
            config=params.config,
            credentials=params.credentials,
            if_version=params.if_version,
            verify=params.verify,
        )

    async def put(self, call: Call, params: SourcePutParams) -> Result:
        return await self._sources.put(
            _whose(call, params.user),
            params.source_id,
            enabled=params.enabled,
            config=params.config,
            credentials=params.credentials,
            if_version=params.if_version,
            verify=params.verify,
        )

    async def authorize(self, call: Call, params: SourceAuthorizeParams) -> Result:
        user = _whose(call, params.user)
        return await self._sources.authorize(user, params.source_id, params.credentials)

    async def delete(self, call: Call, params: SourceDeleteParams) -> Result:
        await self._sources.delete(_whose(call, params.user), params.source_id)
        return {}

    async def preview(self, call: Call, params: SourcePreviewParams) -> Result:
        preview = await self._sources.preview(
            _whose(call, params.user),
            params.source_id,
            config=params.config,
            credentials=params.credentials,
        )
        errors = orjson.dumps([error.wire() for error in preview.errors])
        return b'{"items":[%b],"errors":%b}' % (b",".join(preview.items), errors)

    async def execute(self, call: Call, params: ActionExecuteParams) -> Result:
        answer = await self._actions.execute(
            call.user, params.source_id, params.action_id, params.params, params.key
        )
        return {"result": answer}


def _whose(call: Call, user: str | None) -> UserId:
    return call.user if user is None else UserId(user)
