"""The wire's SourceState: what a settings screen is told of one source. Never a secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import orjson
import structlog
from pydantic import BaseModel

from protocol import times
from protocol.feed import SourceError
from protocol.frozen import JsonObject, JsonValue
from server.engine.source import ActionSpec, FeedSource
from server.engine.tasks import is_fatal
from server.sources.provider import AnyProvider

__all__ = ["OFF", "SourceView", "StatusName", "actions_of", "schema_of", "source_state"]

StatusName: TypeAlias = Literal["off", "starting", "active", "failing", "blocked"]

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source of one user, as a session or a row knows it."""

    enabled: bool = False
    version: int = 0
    config: JsonObject | None = None
    has_credentials: bool = False
    status: StatusName = "off"
    error: SourceError | None = None
    blocked_by: str | None = None
    last_ok_at: datetime | None = None
    source: FeedSource | None = None
    """The instance that runs, which knows its actions."""


OFF: Final = SourceView()


def source_state(provider: AnyProvider, view: SourceView, *, schemas: bool = False) -> dict[str, JsonValue]:
    """The wire object; with `schemas` also what forms are drawn from, which seldom changes."""
    state: dict[str, JsonValue] = {
        "sourceId": provider.source_id,
        "name": provider.name,
        "enabled": view.enabled,
        "version": view.version,
        "config": view.config or {},
        "hasCredentials": view.has_credentials,
        "status": view.status,
        "schemaDigest": _provider_schemas(provider).digest,
    }
    if view.error is not None:
        state["error"] = view.error.wire()
    if view.blocked_by is not None:
        state["blockedBy"] = view.blocked_by
    if view.last_ok_at is not None:
        state["lastOkAt"] = times.to_wire(view.last_ok_at)
    if view.source is not None:
        state["actions"] = [_action_info(action, schemas) for action in actions_of(view.source)]
    if schemas:
        state["configSchema"] = _provider_schemas(provider).config
        if provider.credentials_schema is not None:
            state["credentialSchema"] = schema_of(provider.credentials_schema)
    return state


def actions_of(source: FeedSource) -> Sequence[ActionSpec]:
    """A source's actions; none where it fails to say them, so that a list never fails for one source."""
    try:
        return tuple(source.actions())
    except BaseException as raised:
        if is_fatal(raised):
            raise
        # Foreign code, asked for a list: the failure is its own and must not take the other sources along.
        _log.exception("source_actions_failed", source=source.id)
        return ()


@dataclass(frozen=True, slots=True)
class _Schemas:
    config: JsonValue
    digest: str


def _provider_schemas(provider: AnyProvider) -> _Schemas:
    return _schemas(provider.config_schema, provider.credentials_schema)


@lru_cache(maxsize=256)
def _schemas(config: type[BaseModel], credentials: type[BaseModel] | None) -> _Schemas:
    both = [schema_of(config), None if credentials is None else schema_of(credentials)]
    encoded = orjson.dumps(both, option=orjson.OPT_SORT_KEYS)
    return _Schemas(both[0], blake2b(encoded, digest_size=8).hexdigest())


@lru_cache(maxsize=1024)
def schema_of(model: type[BaseModel]) -> JsonValue:
    """A model's JSON Schema: milliseconds to make, and the same for every user."""
    return model.model_json_schema(by_alias=True)


def _action_info(action: ActionSpec, schemas: bool) -> dict[str, JsonValue]:
    info: dict[str, JsonValue] = {"id": action.id, "label": action.label}
    if action.description is not None:
        info["description"] = action.description
    if schemas and action.params is not None:
        info["inputSchema"] = schema_of(action.params)
    return info
