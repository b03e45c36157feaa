from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.frozen import JsonObject, JsonValue
from protocol.messages import METHODS, NOTIFICATIONS
from protocol.messages.objects import SlotObject
from protocol.messages.schemas import (
    DIALECT,
    method_schema,
    model_schema,
    notification_schema,
    schema_digest,
)

DOCUMENTS = [method_schema(name) for name in METHODS] + [notification_schema(name) for name in NOTIFICATIONS]


def parts(value: JsonValue) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parts(inner)


def lookup(document: JsonObject, pointer: str) -> JsonValue:
    found: JsonValue = document
    for step in pointer.removeprefix("#/").split("/"):
        assert isinstance(found, dict)
        found = found[step]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document["title"]))
def test_every_document_stands_on_its_own(document: JsonObject) -> None:
    assert document["$schema"] == DIALECT
    assert document["description"]
    for part in parts(document):
        if isinstance(part.get("$ref"), str):
            assert lookup(document, str(part["$ref"]))


def test_a_schema_says_what_the_model_checks() -> None:
    params = lookup(method_schema("source.patch"), "#/properties/params")
    assert isinstance(params, dict)
    assert params["additionalProperties"] is False
    assert params["required"] == ["sourceId"]
    assert lookup(params, "#/properties/sourceId") == {"type": "string", "minLength": 1, "maxLength": 128}


def test_what_a_server_leaves_out_is_not_called_nullable() -> None:
    state = lookup(method_schema("source.get"), "#/properties/result")
    assert lookup(state, "#/properties/lastOkAt") == {"type": "string", "format": "date-time"}  # pyright: ignore[reportArgumentType] -- an object, or the look-up fails
    assert lookup(model_schema(SlotObject, "to_client"), "#/properties/content") == {
        "type": ["string", "null"]
    }


def test_the_digest_names_the_contract() -> None:
    assert schema_digest() == schema_digest()
    assert len(schema_digest()) == 16
