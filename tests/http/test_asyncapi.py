"""The generated contract: whole, and in itself right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from protocol.errors import CLOSE_CODES, ERRORS
from protocol.messages import METHODS, NOTIFICATIONS
from server.http.asyncapi import document

DOCUMENT = cast("dict[str, object]", document())


def at(pointer: str) -> object:
    """What a JSON pointer of this document leads to."""
    *outer, last = (
        part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("#/").split("/")
    )
    found = DOCUMENT
    for part in outer:
        found = cast("dict[str, object]", found[part])
    return found[last]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        if isinstance(reference := members.get("$ref"), str):
            yield reference
        for member in members.values():
            yield from references(member)
    elif isinstance(value, list | tuple):
        for member in cast("list[object]", value):
            yield from references(member)


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert at(reference) is not None


def test_every_method_is_an_operation_that_the_server_receives_and_answers() -> None:
    operations = cast("dict[str, dict[str, object]]", at("#/operations"))
    for name, method in METHODS.items():
        assert operations[name]["action"] == "receive"
        assert ("reply" in operations[name]) == (not method.notification)


def test_every_notification_is_an_operation_that_the_server_sends() -> None:
    operations = cast("dict[str, dict[str, object]]", at("#/operations"))
    assert {name for name, one in operations.items() if one["action"] == "send"} == {
        f"push.{name}" for name in NOTIFICATIONS
    }


def test_requests_name_their_method_and_scope_for_tools() -> None:
    messages = cast("dict[str, dict[str, object]]", at("#/components/messages"))
    named = {
        message["x-method"]: message["x-scope"] for message in messages.values() if "x-method" in message
    }
    assert named == {name: method.scope for name, method in METHODS.items()}


def test_every_error_and_close_code_is_listed() -> None:
    errors = cast("list[dict[str, int]]", at("#/x-errors"))
    closes = cast("list[dict[str, int]]", at("#/x-close-codes"))
    assert {error["code"] for error in errors} == set(ERRORS)
    assert {close["code"] for close in closes} == set(CLOSE_CODES)
