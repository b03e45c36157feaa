"""What a feed carries beside its items: groups, the errors of its sources, and context entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast, get_args

import orjson

from protocol import times
from protocol.feed import reading
from protocol.frozen import JsonObject, JsonValue, NotJson, freeze

__all__ = [
    "ContextEntry",
    "ContextKey",
    "ContextPart",
    "ErrorCode",
    "Group",
    "SourceError",
    "context_key_bytes",
]

ErrorCode: TypeAlias = Literal[
    "unauthorized", "unreachable", "rateLimited", "badAnswer", "config", "limit", "internal"
]
ContextPart: TypeAlias = "str | int | float | Mapping[str, bool | int | float | str | None]"
ContextKey: TypeAlias = "tuple[ContextPart, ...]"

_ERROR_CODES: Final[Mapping[str, ErrorCode]] = {code: code for code in get_args(ErrorCode)}
# Floats beyond this no longer tell neighbouring integers apart (2^53).
_EXACT: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class Group:
    """Items that belong together, with one line that stands for them."""

    item_ids: tuple[str, ...]
    summary: str

    def wire(self) -> dict[str, JsonValue]:
        """The wire object."""
        return {"itemIds": self.item_ids, "summary": self.summary}

    @classmethod
    def from_wire(cls, obj: JsonObject) -> Group:
        """Reads the wire object. Raises ValueError."""
        return cls(reading.texts(obj, "itemIds"), reading.text(obj, "summary"))


@dataclass(frozen=True, slots=True)
class SourceError:
    """What is wrong with a source, in words that are safe to show.

    `since` and `retry_at` are no part of a feed's content: they differ between replicas.
    """

    source_id: str
    code: ErrorCode
    message: str
    since: datetime
    retry_at: datetime | None = None

    def wire(self) -> dict[str, JsonValue]:
        """The wire object."""
        obj: dict[str, JsonValue] = {
            "sourceId": self.source_id,
            "code": self.code,
            "message": self.message,
            "since": times.to_wire(self.since),
        }
        if self.retry_at is not None:
            obj["retryAt"] = times.to_wire(self.retry_at)
        return obj

    def content(self) -> list[JsonValue]:
        """What of it counts as content of a feed."""
        return [self.source_id, self.code, self.message]

    @classmethod
    def from_wire(cls, obj: JsonObject) -> SourceError:
        """Reads the wire object. Raises ValueError; a code nobody knows is read as `internal`."""
        return cls(
            reading.text(obj, "sourceId"),
            _ERROR_CODES.get(reading.text(obj, "code"), "internal"),
            reading.text(obj, "message"),
            reading.moment(obj, "since"),
            reading.moment_or_none(obj, "retryAt"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ContextEntry:
    """Something known about the user's world, under a structured key. Build it with `make` or `from_wire`.

    Two entries are equal when their wire bytes are; two keys are one when their canonical JSON is.
    """

    key: ContextKey
    value: JsonValue
    _key_bytes: bytes | None = field(default=None, init=False, repr=False)
    _encoded: bytes | None = field(default=None, init=False, repr=False)

    @classmethod
    def make(cls, key: Sequence[ContextPart], value: object) -> ContextEntry:
        """An entry with both frozen.

        Raises ValueError, with the path: an empty key; a part that is not a string, a number or a flat
        record; a value that is not JSON.
        """
        try:
            frozen = freeze(value)
        except NotJson as wrong:
            raise wrong.below("value") from None
        return cls(_frozen_key(key), frozen)

    @classmethod
    def from_wire(cls, obj: JsonObject) -> ContextEntry:
        """Reads the wire object. Raises ValueError."""
        key = obj.get("key")
        if not isinstance(key, list):
            raise NotJson("not a list", ("key",))
        return cls.make(cast("Sequence[ContextPart]", key), obj.get("value"))

    @property
    def key_bytes(self) -> bytes:
        """The key's canonical JSON: made at the first use, kept from then on."""
        key_bytes = self._key_bytes
        if key_bytes is None:
            # Copied, like an item's bytes: orjson's own buffer is 4 KiB at the least.
            key_bytes = b"%b" % orjson.dumps(self.key, option=orjson.OPT_SORT_KEYS)
            object.__setattr__(self, "_key_bytes", key_bytes)
        return key_bytes

    @property
    def encoded(self) -> bytes:
        """The entry's canonical wire JSON: made at the first use, kept from then on."""
        encoded = self._encoded
        if encoded is None:
            encoded = b'{"key":%b,"value":%b}' % (
                self.key_bytes,
                orjson.dumps(self.value, option=orjson.OPT_SORT_KEYS),
            )
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.encoded == other.encoded if isinstance(other, ContextEntry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.encoded)


def context_key_bytes(key: Sequence[ContextPart]) -> bytes:
    """The canonical JSON of a key. Raises ValueError for what is no key."""
    if all(type(part) is str for part in key):
        return _text_key(tuple(key))
    return orjson.dumps(_frozen_key(key), option=orjson.OPT_SORT_KEYS)


# The few keys that are looked up in every compilation. Texts alone: 1, 1.0 and True are one key to a cache.
@lru_cache(maxsize=4096)
def _text_key(key: tuple[ContextPart, ...]) -> bytes:
    return b"%b" % orjson.dumps(_frozen_key(key), option=orjson.OPT_SORT_KEYS)


def _frozen_key(key: Sequence[ContextPart]) -> ContextKey:
    if not key:
        raise NotJson("an empty key", ("key",))
    return tuple(_frozen_part(part, index) for index, part in enumerate(key))


def _frozen_part(part: object, index: int) -> ContextPart:
    """A part that cannot change. A whole number is one number, whether it was written `1` or `1.0`."""
    try:
        frozen = freeze(part)
    except NotJson as wrong:
        raise wrong.below(index).below("key") from None
    if isinstance(frozen, Mapping):
        if any(isinstance(inner, (list, dict)) for inner in frozen.values()):
            raise NotJson("not a flat record", ("key", index))
        return freeze({name: _whole(inner) for name, inner in frozen.items()})  # pyright: ignore[reportReturnType] -- flat, as was just checked
    if frozen is None or isinstance(frozen, (bool, list)):
        raise NotJson("neither a string, a number nor a record", ("key", index))
    return _whole(frozen)  # pyright: ignore[reportReturnType] -- a string or a number is left


def _whole(value: JsonValue) -> JsonValue:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value
