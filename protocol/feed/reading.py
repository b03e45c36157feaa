"""Taking wire objects apart: each function reads one member, or says where it went wrong.

Readers are as tolerant as the protocol asks clients to be: members and enum values they don't know are
passed over. What must be there and isn't, or is of another type, is a ValueError that names the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

from protocol import times
from protocol.frozen import JsonObject, JsonValue, NotJson

__all__ = [
    "as_object",
    "as_text",
    "items",
    "list_of",
    "moment",
    "moment_or_none",
    "number_or_none",
    "object_or_none",
    "objects",
    "text",
    "text_or_none",
    "texts",
]

T = TypeVar("T")

_MISSING: Final = NotJson("missing")


def text(obj: JsonObject, key: str) -> str:
    """A member that must be a string."""
    return as_text(_required(obj, key), key)


def text_or_none(obj: JsonObject, key: str) -> str | None:
    """A member that is a string, null or absent."""
    value = obj.get(key)
    return None if value is None else as_text(value, key)


def texts(obj: JsonObject, key: str) -> tuple[str, ...]:
    """A member that is a list of strings; absent is empty."""
    return tuple(as_text(value, key, index) for index, value in enumerate(items(obj, key)))


def moment(obj: JsonObject, key: str) -> datetime:
    """A member that must be an RFC 3339 time."""
    return _time(text(obj, key), key)


def moment_or_none(obj: JsonObject, key: str) -> datetime | None:
    """A member that is an RFC 3339 time, null or absent."""
    value = text_or_none(obj, key)
    return None if value is None else _time(value, key)


def number_or_none(obj: JsonObject, key: str) -> float | None:
    """A member that is a number, null or absent."""
    value = obj.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotJson("not a number", (key,))
    return float(value)


def object_or_none(obj: JsonObject, key: str) -> JsonObject | None:
    """A member that is an object, null or absent."""
    value = obj.get(key)
    return None if value is None else as_object(value, key)


def objects(obj: JsonObject, key: str) -> Iterator[tuple[int, JsonObject]]:
    """A member that is a list of objects, each with its index; absent is empty."""
    for index, value in enumerate(items(obj, key)):
        yield index, as_object(value, key, index)


def list_of(obj: JsonObject, key: str, read: Callable[[JsonObject], T]) -> tuple[T, ...]:
    """A member that is a list of objects, each read by `read`; absent is empty."""
    return tuple([_read_one(read, value, key, index) for index, value in objects(obj, key)])


def items(obj: JsonObject, key: str) -> Sequence[JsonValue]:
    """A member that is a list of anything; absent is empty."""
    value = obj.get(key)
    if value is None:
        return ()
    if isinstance(value, list):
        return value
    raise NotJson("not a list", (key,))


def as_text(value: JsonValue, *path: str | int) -> str:
    """`value`, which must be a string; `path` says where it stands."""
    if isinstance(value, str):
        return value
    raise NotJson("not a string", path)


def as_object(value: JsonValue, *path: str | int) -> JsonObject:
    """`value`, which must be an object; `path` says where it stands."""
    if isinstance(value, dict):
        return value
    raise NotJson("not an object", path)


def _required(obj: JsonObject, key: str) -> JsonValue:
    value = obj.get(key)
    if value is None:
        raise _MISSING.below(key)
    return value


def _read_one(read: Callable[[JsonObject], T], value: JsonObject, key: str, index: int) -> T:
    try:
        return read(value)
    except NotJson as wrong:
        raise wrong.below(index).below(key) from None


def _time(value: str, key: str) -> datetime:
    try:
        return times.from_wire(value)
    except ValueError as wrong:
        raise NotJson(str(wrong), (key,)) from None
