from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import errors
from protocol.errors import ERRORS, Issue, RpcError, UnknownError, error_from_wire
from protocol.frozen import JsonValue
from tests.protocol.strategies import json_values

ISSUES = [Issue(("a", 0), "wrong")]
WIRE_ISSUES = [{"path": ["a", 0], "message": "wrong"}]

# Each error with its code and what the protocol's table has in `data` beside `temporary` and `retryInMs`.
EVERY_ERROR: Sequence[tuple[RpcError, int, dict[str, object]]] = [
    (errors.ParseError(), -32700, {}),
    (errors.InvalidRequest(), -32600, {}),
    (errors.MethodNotFound("x.y"), -32601, {"method": "x.y"}),
    (errors.InvalidParams(ISSUES), -32602, {"issues": WIRE_ISSUES}),
    (errors.InternalError("e"), -32603, {"errorId": "e"}),
    (errors.SourceNotFound("s"), -32001, {"sourceId": "s"}),
    (errors.SourceNotFound("s", reason="noRow"), -32001, {"sourceId": "s", "reason": "noRow"}),
    (errors.InvalidSourceConfig("s", ISSUES), -32002, {"sourceId": "s", "issues": WIRE_ISSUES}),
    (errors.CredentialStorageUnavailable(), -32003, {}),
    (errors.InvalidCredentials("s", ISSUES), -32004, {"sourceId": "s", "issues": WIRE_ISSUES}),
    (
        errors.UnknownAction("s", "a"),
        -32005,
        {"sourceId": "s", "actionId": "a", "message": "s has no action a"},
    ),
    (errors.ActionFailed("s", "a", "m"), -32006, {"sourceId": "s", "actionId": "a", "message": "m"}),
    (errors.VersionConflict("s", 7), -32007, {"sourceId": "s", "version": 7}),
    (errors.Forbidden("admin"), -32008, {"needs": "admin"}),
    (errors.RateLimited(250), -32009, {}),
    (errors.StorageUnavailableError("unknown"), -32010, {"outcome": "unknown"}),
    (errors.FeedNotFound("f"), -32011, {"feed": "f"}),
    (errors.VerificationFailed("s", "m"), -32012, {"sourceId": "s", "message": "m"}),
    (
        errors.VerificationFailed("s", "m", ISSUES),
        -32012,
        {"sourceId": "s", "message": "m", "issues": WIRE_ISSUES},
    ),
    (errors.SourceNotRunning("s", "failing"), -32013, {"sourceId": "s", "status": "failing"}),
    (errors.InvalidToken("expired"), -32014, {"reason": "expired"}),
    (errors.LimitReached("items", 5), -32015, {"limit": "items", "max": 5}),
    (errors.TimedOut("none"), -32016, {"outcome": "none"}),
]

TEMPORARY = {-32009, -32010, -32016}


def over_the_wire(error: RpcError) -> dict[str, JsonValue]:
    return orjson.loads(orjson.dumps(error.wire()))


@pytest.mark.parametrize(("error", "code", "data"), EVERY_ERROR)
def test_every_error_has_the_code_and_data_of_the_table(
    error: RpcError, code: int, data: dict[str, object]
) -> None:
    wire = over_the_wire(error)
    got = wire["data"]
    assert isinstance(got, dict)
    assert wire["code"] == code
    assert wire["message"]
    assert {key: value for key, value in got.items() if key not in ("temporary", "retryInMs")} == data
    assert got["temporary"] is (code in TEMPORARY)
    assert ("retryInMs" in got) is (code in TEMPORARY)


@pytest.mark.parametrize(("error", "code", "data"), EVERY_ERROR)
def test_a_client_gets_every_error_as_its_class_with_its_fields(
    error: RpcError, code: int, data: dict[str, object]
) -> None:
    back = error_from_wire(over_the_wire(error))
    assert type(back) is type(error)
    assert (back.code, back.message, back.retry_in_ms) == (code, error.message, error.retry_in_ms)
    assert over_the_wire(back) == over_the_wire(error)
    assert str(code) in str(back)


def test_every_code_is_there_once() -> None:
    assert set(ERRORS) == {code for _, code, _ in EVERY_ERROR}
    assert {code for code in ERRORS if code > -32100} == set(range(-32016, -32000))


def test_the_fields_of_an_error_say_what_was_put_in() -> None:
    assert errors.VersionConflict("s", 7).version == 7
    assert errors.InvalidParams(ISSUES).issues == tuple(ISSUES)
    assert errors.StorageUnavailableError("none").outcome == "none"
    assert errors.ActionFailed("s", "a", "m", retry_in_ms=5).reason == "m"
    assert errors.SourceNotRunning("s", "starting").temporary


@given(st.dictionaries(st.sampled_from(["code", "message", "data"]), json_values))
def test_any_error_object_at_all_is_an_error(wire: dict[str, JsonValue]) -> None:
    assert isinstance(error_from_wire(wire), RpcError)


@given(st.sampled_from(sorted(ERRORS)), st.dictionaries(st.sampled_from(
    ["sourceId", "issues", "version", "outcome", "message", "max", "temporary", "retryInMs"]
), json_values))  # fmt: skip
def test_odd_data_of_a_known_code_leaves_its_fields_empty(code: int, data: dict[str, JsonValue]) -> None:
    error = error_from_wire({"code": code, "message": "m", "data": data})
    assert isinstance(error, ERRORS[code])
    for name in ("source_id", "reason", "issues", "version", "outcome", "max"):
        if hasattr(type(error), name):
            assert isinstance(getattr(error, name), str | int | tuple)


def test_an_unknown_code_is_kept() -> None:
    error = error_from_wire({"code": -31999, "message": "new", "data": {"temporary": True, "x": 1}})
    assert isinstance(error, UnknownError)
    assert (error.code, error.message, error.details) == (-31999, "new", {"x": 1})
    assert error.temporary
    assert UnknownError(-31999, "new").code == -31999
