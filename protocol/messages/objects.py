"""The objects that several methods and notifications carry, as the wire has them.

The feed's own classes in `protocol.feed` are what programs work with; these models are their contract:
JSON Schema is drawn from them, and what a client sends is checked by them.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints, WithJsonSchema

from protocol.feed import ErrorCode, TimeRelevance
from protocol.messages.base import (
    CursorText,
    FeedName,
    Id,
    Json,
    JsonMap,
    Params,
    SourceName,
    Text,
    Time,
    WireModel,
)

__all__ = [
    "ActionInfo",
    "ContextEntryObject",
    "GroupObject",
    "ItemObject",
    "Limits",
    "PublishItem",
    "SignalsObject",
    "PublishSignals",
    "PublishSlot",
    "SlotObject",
    "Snapshot",
    "SourceErrorObject",
    "SourceState",
    "SourceStatus",
]

SourceStatus: TypeAlias = Literal["off", "starting", "active", "failing", "blocked"]
"""`blocked`: something it needs is off or missing."""


class SignalsObject(WireModel):
    """How much an item wants to be seen."""

    urgency: Annotated[float, Field(ge=0, le=1)] | None = None
    time_relevance: TimeRelevance | str | None = None


class SlotObject(WireModel):
    """A place in an item that waits for a text; `content` is null until there is one."""

    description: str
    content: Annotated[str | None, WithJsonSchema({"type": ["string", "null"]})] = None


class ItemObject(WireModel):
    """A card of the feed. `timestamp` is the content's time; it is hidden after `expiresAt`, also offline."""

    id: Id
    source_id: SourceName
    type: str
    timestamp: Time
    data: JsonMap
    signals: SignalsObject | None = None
    slots: dict[str, SlotObject] | None = None
    ui: Json = None
    expires_at: Time | None = None


class GroupObject(WireModel):
    """Items that belong together."""

    item_ids: list[Id]
    summary: str


class SourceErrorObject(WireModel):
    """What is wrong with a source, in words that are safe to show."""

    source_id: SourceName
    code: ErrorCode | str
    message: str
    since: Time
    retry_at: Time | None = None


class ContextEntryObject(WireModel):
    """Something known about the user's world. A part of a key is a string, a number or a flat object."""

    key: Annotated[list[Json], Field(min_length=1)]
    value: Json = None


class Snapshot(WireModel):
    """A whole feed. `pending` names the sources that are still to give their first answer."""

    feed: FeedName
    cursor: CursorText
    at: Time
    items: list[ItemObject]
    groups: list[GroupObject]
    errors: list[SourceErrorObject]
    pending: list[SourceName]
    context: list[ContextEntryObject] | None = None


class ActionInfo(WireModel):
    """Something a source can be asked to do; `inputSchema` is JSON Schema 2020-12."""

    id: str
    label: str
    description: str | None = None
    input_schema: JsonMap | None = None


class SourceState(WireModel):
    """A source as settings screens see it. Schemas and the actions' schemas only where asked for."""

    source_id: SourceName
    name: str
    enabled: bool
    version: Annotated[int, Field(ge=0)]
    config: JsonMap
    has_credentials: bool
    status: SourceStatus | str
    error: SourceErrorObject | None = None
    blocked_by: str | None = None
    last_ok_at: Time | None = None
    schema_digest: str
    config_schema: JsonMap | None = None
    credential_schema: JsonMap | None = None
    actions: list[ActionInfo] | None = None


class Limits(WireModel):
    """The bounds of this server, as far as a client can run into them."""

    max_message_bytes: int
    max_frame_bytes: int
    requests_per_s: float
    burst: int
    concurrent: int
    subscriptions: int
    items: int


class PublishSignals(Params):
    """The signals of a published item."""

    urgency: Annotated[float, Field(ge=0, le=1)] | None = None
    time_relevance: TimeRelevance | None = None


class PublishSlot(Params):
    """A slot of a published item."""

    description: Text
    content: Text | None = None


class PublishItem(Params):
    """An item as a service publishes it. The same id from the same publisher replaces."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    data: JsonMap
    timestamp: Time | None = None
    expires_at: Time | None = None
    signals: PublishSignals | None = None
    slots: Annotated[dict[str, PublishSlot], Field(max_length=16)] | None = None
    ui: Json = None
