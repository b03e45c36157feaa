"""The methods of the protocol as functions with types. Each is one request; `call` sends any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import uuid4

from protocol import times
from protocol.feed import FeedItem, SourceError, reading
from protocol.frozen import JsonObject, JsonValue
from protocol.messages.base import WireModel
from protocol.messages.connection import ConnectionInfo
from protocol.messages.item import ItemPublishResult, ItemRetractResult
from protocol.messages.objects import SourceState
from protocol.messages.source import ActionExecuteResult, SourceListResult

__all__ = ["Calls"]

Result = TypeVar("Result", bound=WireModel)


class Calls(ABC):
    """What can be asked of the server. Every function raises what `call` raises."""

    @abstractmethod
    async def call(
        self, method: str, params: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> JsonValue:
        """The result of one request, waiting for a connection first where there is none.

        Raises `protocol.errors.RpcError` (its subclass for the code) for an error reply, and of
        `protocol.client.failures`: NotConnected, MessageTooBig (nothing was sent), ConnectionLost,
        CallTimedOut (it may or may not have been done), Stopped. Cancelled, likewise unknown.
        """

    async def list_sources(self, *, schemas: bool = False, user: str | None = None) -> Sequence[SourceState]:
        """All sources there are, with the user's settings; `schemas`: with what forms are drawn from."""
        found = await self._ask("source.list", SourceListResult, schemas=schemas, user=user)
        return found.sources

    async def get_source(self, source_id: str, *, schemas: bool = False) -> SourceState:
        """One source."""
        return await self._ask("source.get", SourceState, sourceId=source_id, schemas=schemas)

    async def patch_source(
        self,
        source_id: str,
        *,
        enabled: bool | None = None,
        config: Mapping[str, object] | None = None,
        credentials: Mapping[str, object] | None = None,
        if_version: int | None = None,
        verify: bool = False,
    ) -> SourceState:
        """Changes what is named and leaves the rest; `config` by JSON Merge Patch (None removes a key)."""
        return await self._ask(
            "source.patch",
            SourceState,
            sourceId=source_id,
            enabled=enabled,
            config=config,
            credentials=credentials,
            ifVersion=if_version,
            verify=verify,
        )

    async def put_source(
        self,
        source_id: str,
        *,
        enabled: bool = True,
        config: Mapping[str, object] | None = None,
        credentials: Mapping[str, object] | None = None,
        if_version: int | None = None,
        verify: bool = False,
    ) -> SourceState:
        """Inserts or replaces the whole config."""
        return await self._ask(
            "source.put",
            SourceState,
            sourceId=source_id,
            enabled=enabled,
            config=config,
            credentials=credentials,
            ifVersion=if_version,
            verify=verify,
        )

    async def authorize_source(self, source_id: str, credentials: Mapping[str, object]) -> SourceState:
        """Stores credentials for a source that has a config."""
        return await self._ask("source.authorize", SourceState, sourceId=source_id, credentials=credentials)

    async def delete_source(self, source_id: str) -> None:
        """Erases a source's config and credentials."""
        await self.call("source.delete", {"sourceId": source_id})

    async def preview_source(
        self,
        source_id: str,
        *,
        config: Mapping[str, object] | None = None,
        credentials: Mapping[str, object] | None = None,
    ) -> tuple[tuple[FeedItem, ...], tuple[SourceError, ...]]:
        """What a source would show with such settings, and what would be wrong; nothing is stored."""
        params = _given(sourceId=source_id, config=config, credentials=credentials)
        shown = reading.as_object(await self.call("source.preview", params))
        return (
            reading.list_of(shown, "items", FeedItem.from_wire),
            reading.list_of(shown, "errors", SourceError.from_wire),
        )

    async def execute(
        self, source_id: str, action_id: str, params: object = None, *, key: str | None = None
    ) -> JsonValue:
        """Asks a running source to do something: once for each `key`; where none is given, one is made."""
        asked = _given(sourceId=source_id, actionId=action_id, params=params, key=key or str(uuid4()))
        return ActionExecuteResult.read(reading.as_object(await self.call("action.execute", asked))).result

    async def publish(self, feeds: str | Sequence[str], items: Sequence[JsonObject]) -> ItemPublishResult:
        """Puts items into the inboxes of the users; the same id from the same publisher replaces."""
        return await self._ask("item.publish", ItemPublishResult, **_targets(feeds), items=items)

    async def retract(self, feeds: str | Sequence[str], ids: Sequence[str]) -> int:
        """Takes published items back, and says how many there were."""
        return (await self._ask("item.retract", ItemRetractResult, **_targets(feeds), ids=ids)).removed

    async def dismiss(self, item_id: str) -> None:
        """Takes an item out of one's own feed until its content changes."""
        await self.call("item.dismiss", {"id": item_id})

    async def refresh(self) -> None:
        """Asks every source again; returns once each was asked."""
        await self.call("feed.refresh", {})

    async def background(self, keep_ms: int | None = None) -> None:
        """Pushes stop for so long (10 minutes, at most 30), requests still work."""
        await self.call("connection.background", _given(keepMs=keep_ms))

    async def foreground(self) -> None:
        """Pushes go on, with one delta for all that was missed."""
        await self.call("connection.foreground", {})

    async def info(self) -> ConnectionInfo:
        """The connection as the server sees it."""
        return await self._ask("connection.info", ConnectionInfo)

    async def ping(self, *, timeout_s: float = 3.0) -> datetime:
        """The server's time. No answer in time means that the connection is dead."""
        answer = reading.as_object(await self.call("connection.ping", {}, timeout_s=timeout_s))
        return times.from_wire(reading.text(answer, "at"))

    async def _ask(self, method: str, kind: type[Result], **params: object) -> Result:
        return kind.read(reading.as_object(await self.call(method, _given(**params))))


def _given(**params: object) -> dict[str, object]:
    return {name: value for name, value in params.items() if value is not None}


def _targets(feeds: str | Sequence[str]) -> dict[str, object]:
    return {"feed": feeds} if isinstance(feeds, str) else {"feeds": list(feeds)}
