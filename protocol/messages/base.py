"""What all models of the wire have in common: names, times, JSON values, bounds, and how they are read.

A model is strict (no string passes for a number) and frozen. `Params` refuse what they don't know, so that
a misspelt member is not silently without effect; results and notifications pass over it, so that an older
client understands a newer server.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from protocol import times
from protocol.errors import InvalidParams, Issue
from protocol.feed import MAX_CURSOR_LENGTH
from protocol.frozen import FrozenDict, JsonObject, JsonValue, freeze

__all__ = [
    "CursorText",
    "FeedName",
    "Id",
    "Json",
    "JsonMap",
    "Method",
    "NoParams",
    "Notice",
    "Nothing",
    "Params",
    "Scope",
    "SourceName",
    "Text",
    "Time",
    "WireModel",
    "issues_of",
]

Scope: TypeAlias = Literal["own", "feed:watch", "item:publish", "admin"]


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return times.utc(value)
    if isinstance(value, str):
        return times.from_wire(value)
    raise ValueError("not an RFC 3339 time with an offset")


def _read_object(value: object) -> FrozenDict:
    frozen = freeze(value)
    if isinstance(frozen, FrozenDict):
        return frozen
    raise ValueError("not an object")


Time: TypeAlias = Annotated[
    datetime,
    PlainValidator(_read_time),
    PlainSerializer(times.to_wire, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

if TYPE_CHECKING:
    Json: TypeAlias = JsonValue
    JsonMap: TypeAlias = FrozenDict
else:
    # Any JSON, frozen as it is read. Pydantic would walk a recursive type once more, to no end.
    Json: TypeAlias = Annotated[object, PlainValidator(freeze), WithJsonSchema({})]
    JsonMap: TypeAlias = Annotated[object, PlainValidator(_read_object), WithJsonSchema({"type": "object"})]

# Bounds on names: far over what anybody uses, so that none of them is a way to fill the memory.
FeedName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
SourceName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Text: TypeAlias = Annotated[str, StringConstraints(max_length=4096)]
CursorText: TypeAlias = Annotated[
    str, StringConstraints(pattern=rf"^[A-Za-z0-9_-]{{1,{MAX_CURSOR_LENGTH}}}$")
]


class WireModel(BaseModel):
    """An object of the wire: camelCase there, snake_case here. What it does not know is passed over."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        strict=True,
        frozen=True,
        extra="ignore",
    )

    # Most members that are None are not there at all; where null means something, it is kept.
    keeps_null: ClassVar[bool] = False

    @classmethod
    def read(cls, obj: JsonObject) -> Self:
        """The model of a wire object. Raises ValueError (pydantic's ValidationError) where it is none."""
        return cls.model_validate(obj)

    def encode(self) -> bytes:
        """The wire bytes, without what is not set."""
        return self.model_dump_json(exclude_none=not self.keeps_null).encode()


class Params(WireModel):
    """The params of a method: members that it does not know are refused."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def read(cls, obj: JsonObject) -> Self:
        """The params of a request. Raises InvalidParams with one issue for each mistake, and its path."""
        try:
            return cls.model_validate(obj)
        except ValidationError as wrong:
            raise InvalidParams(issues_of(wrong)) from None


class Nothing(WireModel):
    """An empty object: the result of what is only done, the params of what takes none."""


class NoParams(Params):
    """No params at all."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a client may call.

    `scope` is what a token needs for it (`own`: a feed of its own, which every token has; None: nothing
    beyond a connection), `other_scope` what it needs to name somebody else's feed or user. A method that
    `writes` runs after the writing requests that came before it on the same connection. A `notification` is
    meant to be sent without an id.
    """

    name: str
    params: type[Params]
    result: type[WireModel]
    doc: str
    scope: Scope | None = "own"
    other_scope: Scope | None = None
    writes: bool = False
    notification: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """What a server sends unasked; with `scope`, only to connections that have it."""

    name: str
    params: type[WireModel]
    doc: str
    scope: Scope | None = None


_PREFIX: Final = "Value error, "


def issues_of(wrong: ValidationError) -> tuple[Issue, ...]:
    """What pydantic found, in the wire's words: the path by wire names, and a sentence without the value."""
    found = wrong.errors(include_url=False, include_context=False, include_input=False)
    return tuple([Issue(tuple(error["loc"]), error["msg"].removeprefix(_PREFIX)) for error in found])
