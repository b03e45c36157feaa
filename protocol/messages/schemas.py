"""JSON Schema 2020-12 of the contract, drawn from the models, and the digest that names it."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from protocol.frozen import FrozenDict, freeze
from protocol.messages import METHODS, NOTIFICATIONS
from protocol.messages.base import WireModel

__all__ = ["DIALECT", "Direction", "method_schema", "model_schema", "notification_schema", "schema_digest"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Direction: TypeAlias = Literal["to_server", "to_client"]


class _ToServer(GenerateJsonSchema):
    """Without the titles that pydantic makes of member names: they say nothing new."""

    def field_title_should_be_set(self, schema: core_schema.CoreSchema | object) -> bool:
        return False


class _ToClient(_ToServer):
    """What is not set is left out on the way to a client, never null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = super().default_schema(schema)
        return {key: value for key, value in inner.items() if key != "default"}


@lru_cache(maxsize=256)
def model_schema(
    model: type[WireModel], direction: Direction, ref_template: str = "#/$defs/{model}"
) -> FrozenDict:
    """The schema of one model, with its parts under `$defs`."""
    if direction == "to_server":
        return freeze(model.model_json_schema(ref_template=ref_template, schema_generator=_ToServer))
    return freeze(
        model.model_json_schema(ref_template=ref_template, schema_generator=_ToClient, mode="serialization")
    )


@lru_cache(maxsize=256)
def method_schema(name: str) -> FrozenDict:
    """A method's document: the schemas of its `params` and `result`. Raises KeyError for an unknown name."""
    method = METHODS[name]
    return freeze(
        {
            "$schema": DIALECT,
            "title": name,
            "description": method.doc,
            "type": "object",
            "properties": {
                "params": model_schema(method.params, "to_server", "#/properties/params/$defs/{model}"),
                "result": model_schema(method.result, "to_client", "#/properties/result/$defs/{model}"),
            },
        }
    )


@lru_cache(maxsize=256)
def notification_schema(name: str) -> FrozenDict:
    """The schema of a notification's params. Raises KeyError for an unknown name."""
    notice = NOTIFICATIONS[name]
    return freeze(
        {
            "$schema": DIALECT,
            **model_schema(notice.params, "to_client"),
            "title": name,
            "description": notice.doc,
        }
    )


@lru_cache(maxsize=1)
def schema_digest() -> str:
    """Names the contract as a whole: it changes exactly when a method's or notification's schema does."""
    contract = [method_schema(name) for name in METHODS] + [notification_schema(n) for n in NOTIFICATIONS]
    return blake2b(orjson.dumps(contract, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
