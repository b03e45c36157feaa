"""`source.*` and `action.*`: a user's settings, and what sources can be asked to do."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from protocol.messages.base import (
    FeedName,
    Json,
    JsonMap,
    Method,
    Nothing,
    Notice,
    Params,
    SourceName,
    WireModel,
)
from protocol.messages.objects import ItemObject, SourceErrorObject, SourceState

__all__ = [
    "METHODS",
    "NOTIFICATIONS",
    "ActionExecuteParams",
    "ActionExecuteResult",
    "SourceAuthorizeParams",
    "SourceChanged",
    "SourceDeleteParams",
    "SourceGetParams",
    "SourceListParams",
    "SourceListResult",
    "SourceParams",
    "SourcePatchParams",
    "SourcePreviewParams",
    "SourcePreviewResult",
    "SourcePutParams",
]


class SourceListParams(Params):
    """`schemas`: with what forms are drawn from. `user`: somebody else's sources."""

    schemas: bool = False
    user: FeedName | None = None


class SourceParams(Params):
    """One source; `user`: of somebody else."""

    source_id: SourceName
    user: FeedName | None = None


class SourceGetParams(SourceParams):
    """`schemas`: with what forms are drawn from."""

    schemas: bool = False


class SourcePatchParams(SourceParams):
    """What to change; `config` by JSON Merge Patch (RFC 7396). `ifVersion`: only if the row is at it."""

    enabled: bool | None = None
    config: JsonMap | None = None
    credentials: JsonMap | None = None
    if_version: Annotated[int, Field(ge=0)] | None = None
    verify: bool = False


class SourcePutParams(SourceParams):
    """The whole of it. `ifVersion: 0`: only if there is no row."""

    enabled: bool
    config: JsonMap | None = None
    credentials: JsonMap | None = None
    if_version: Annotated[int, Field(ge=0)] | None = None
    verify: bool = False


class SourceAuthorizeParams(SourceParams):
    """The credentials alone."""

    credentials: JsonMap


class SourceDeleteParams(SourceParams):
    """The source whose row and credentials are to be erased."""


class SourcePreviewParams(SourceParams):
    """What to try, over what is stored."""

    config: JsonMap | None = None
    credentials: JsonMap | None = None


class SourceListResult(WireModel):
    """Every registered provider; without a row: version 0, off."""

    sources: list[SourceState]


class SourcePreviewResult(WireModel):
    """What the source would show."""

    items: list[ItemObject]
    errors: list[SourceErrorObject]


class SourceChanged(WireModel):
    """The source as it is now, to every connection of the user."""

    source: SourceState


class ActionExecuteParams(Params):
    """`key`, a UUID made by the client, makes it safe to repeat for 24 h: a repeat gets the first answer."""

    source_id: SourceName
    action_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    params: Json = None
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


class ActionExecuteResult(WireModel):
    """What the action answered."""

    keeps_null: ClassVar[bool] = True

    result: Json = None


METHODS = (
    Method(
        "source.list",
        SourceListParams,
        SourceListResult,
        "All sources there are, with this user's settings.",
        other_scope="admin",
    ),
    Method("source.get", SourceGetParams, SourceState, "One source.", other_scope="admin"),
    Method(
        "source.patch",
        SourcePatchParams,
        SourceState,
        "Changes what is named and leaves the rest; the source is swapped live.",
        other_scope="admin",
        writes=True,
    ),
    Method(
        "source.put",
        SourcePutParams,
        SourceState,
        "Inserts or replaces a source's whole config.",
        other_scope="admin",
        writes=True,
    ),
    Method(
        "source.authorize",
        SourceAuthorizeParams,
        SourceState,
        "Stores credentials for a source that has a row.",
        other_scope="admin",
        writes=True,
    ),
    Method(
        "source.delete",
        SourceDeleteParams,
        Nothing,
        "Erases a source's row and credentials.",
        other_scope="admin",
        writes=True,
    ),
    Method(
        "source.preview",
        SourcePreviewParams,
        SourcePreviewResult,
        "What a source would show with such settings; nothing is stored.",
        other_scope="admin",
    ),
    Method(
        "action.execute",
        ActionExecuteParams,
        ActionExecuteResult,
        "Asks a running source to do something.",
        writes=True,
    ),
)

NOTIFICATIONS = (
    Notice(
        "source.changed",
        SourceChanged,
        "A source's settings or status changed; the latest one per source while a socket is full.",
    ),
)
