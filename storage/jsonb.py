"""JSON as the database takes it and gives it: text, since the driver leaves jsonb to us.

jsonb keeps values, not spelling: members come back in another order, `1e3` as `1000`.
"""

from __future__ import annotations

from typing import cast

import orjson

from protocol.frozen import JsonObject, JsonValue

__all__ = ["from_jsonb", "object_from_jsonb", "to_jsonb"]


def to_jsonb(value: JsonValue) -> str:
    """Raises TypeError for what is not JSON. U+0000 is not seen here: the database refuses it."""
    return orjson.dumps(value).decode()


def from_jsonb(text: str) -> JsonValue:
    return cast("JsonValue", orjson.loads(text))


def object_from_jsonb(text: str) -> JsonObject:
    """For the columns that hold objects alone; the schema sees to it."""
    return cast("JsonObject", orjson.loads(text))
