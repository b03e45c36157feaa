from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import InvalidParams
from protocol.frozen import MAX_DEPTH, FrozenDict, JsonValue
from protocol.jsonrpc import FrameError, Message, Notification, Request, Response, parse
from tests.protocol.strategies import json_values

REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[1,"x"]}}'


def refused(frame: bytes | str) -> FrameError:
    with pytest.raises(FrameError) as caught:
        parse(frame)
    return caught.value


def with_id(request_id: JsonValue) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "method": "m"})


def with_params(params: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}' % params.encode()


def nested(depth: int) -> str:
    return '{"a":' + "[" * depth + "1" + "]" * depth + "}"


def check_anything(frame: bytes | str) -> None:
    try:
        outcome: Message | FrameError = parse(frame)
    except FrameError as error:
        outcome = error
    if isinstance(outcome, FrameError):
        assert outcome.error.code in (-32700, -32600, -32602)
        assert not outcome.silent or outcome.id is None
    else:
        assert isinstance(outcome, Request | Notification | Response)


@given(st.binary())
@example(b"")
@example(b"\xff")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 2_000)
@example(b'{"a":' * 2_000)
@example(b'{"jsonrpc":"2.0","method":"m","params":{},"x":' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"jsonrpc":"2.0","method":"m","params":{"a":' + b"9" * 5_000 + b"}}")
def test_any_bytes_are_a_message_or_a_named_error(frame: bytes) -> None:
    check_anything(frame)


@given(st.text())
@example("\ud800")
def test_any_text_is_a_message_or_a_named_error(frame: str) -> None:
    check_anything(frame)


@given(json_values)
def test_any_json_is_a_message_or_a_named_error(value: JsonValue) -> None:
    check_anything(orjson.dumps(value))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "jsonrpc": st.sampled_from(["2.0", "1.0", None, 2]),
            "id": json_values,
            "method": json_values | st.just("m"),
            "params": json_values,
            "result": json_values,
            "error": json_values,
        },
    )
)
def test_anything_that_looks_like_a_message_is_one_or_a_named_error(obj: dict[str, JsonValue]) -> None:
    check_anything(orjson.dumps(obj))


@given(st.integers(0, len(REQUEST) - 1), st.integers(0, 255))
def test_a_request_with_one_byte_garbled_is_a_message_or_a_named_error(at: int, byte: int) -> None:
    check_anything(REQUEST[:at] + bytes([byte]) + REQUEST[at + 1 :])


def test_requests_notifications_and_answers_are_told_apart() -> None:
    assert parse(REQUEST) == Request(1, "m", {"a": [1, "x"]})
    assert parse('{"jsonrpc":"2.0","method":"m"}') == Notification("m", {})
    assert parse('{"jsonrpc":"2.0","id":"a","result":null}') == Response("a", None)
    assert parse('{"jsonrpc":"2.0","id":null,"error":{"code":1}}') == Response(None, None, {"code": 1})
    assert parse('{"jsonrpc":"2.0","id":1,"error":"odd"}') == Response(1, None, {})


@pytest.mark.parametrize("request_id", [0, -1, 2**53 - 1, -(2**53) + 1, "", "x" * 128, "é" * 64])
def test_an_id_is_a_short_string_or_an_integer_that_every_client_can_tell_apart(
    request_id: int | str,
) -> None:
    assert parse(with_id(request_id)) == Request(request_id, "m", {})


@pytest.mark.parametrize(
    "request_id", [None, True, 1.0, 1.5, 2**53, -(2**53), "x" * 129, "é" * 65, "a\0", [], {}]
)
def test_any_other_id_is_answered_as_an_invalid_request_under_null(request_id: JsonValue) -> None:
    error = refused(with_id(request_id))
    assert (error.error.code, error.id, error.silent) == (-32600, None, False)


@pytest.mark.parametrize("frame", [b"", b"{", b"nonsense", b'{"a":NaN}', b"\xff\xfe", b'"\\ud800"', "\ud800"])
def test_what_is_no_json_text_is_a_parse_error(frame: bytes | str) -> None:
    error = refused(frame)
    assert (error.error.code, error.id, error.silent) == (-32700, None, False)


@pytest.mark.parametrize("frame", [b"[]", b"[%b]" % REQUEST, b"1", b'"x"', b"null", b"true"])
def test_a_batch_or_a_bare_value_is_an_invalid_request(frame: bytes) -> None:
    error = refused(frame)
    assert (error.error.code, error.id) == (-32600, None)


@pytest.mark.parametrize(
    "members",
    [{"id": 1, "method": "m"}, {"jsonrpc": "1.0", "id": 1, "method": "m"}, {"jsonrpc": "2.0", "id": 1}]
    + [{"jsonrpc": "2.0", "id": 1, "method": method} for method in (None, 1, ["m"])],
)
def test_a_request_without_version_or_method_is_invalid_under_its_own_id(
    members: dict[str, JsonValue],
) -> None:
    error = refused(orjson.dumps(members))
    assert (error.error.code, error.id) == (-32600, 1)


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ("[1]", []),
        ("null", []),
        ('"x"', []),
        ('{"a":["\\u0000"]}', ["a", 0]),
        ('{"\\u0000":1}', []),
        ('{"a":18446744073709551616}', []),
        ('{"a":-9223372036854775809}', []),
        (nested(MAX_DEPTH), ["a"] + [0] * (MAX_DEPTH - 1)),
        (nested(500), ["a"] + [0] * (MAX_DEPTH - 1)),
    ],
)
def test_params_that_no_method_takes_are_refused_before_any_method_sees_them(
    params: str, path: list[str | int]
) -> None:
    error = refused(with_params(params))
    assert (error.error.code, error.id) == (-32602, 1)
    assert isinstance(error.error, InvalidParams)
    assert [issue.path for issue in error.error.issues] == [tuple(path)]


def test_a_notification_with_bad_params_is_refused_in_silence() -> None:
    error = refused('{"jsonrpc":"2.0","method":"m","params":[]}')
    assert (error.error.code, error.silent) == (-32602, True)


def test_a_message_without_a_method_is_answered_even_without_an_id() -> None:
    assert not refused('{"jsonrpc":"2.0","params":{}}').silent


@pytest.mark.parametrize(
    "params",
    [
        '{"a":18446744073709551615}',
        '{"a":-9223372036854775808}',
        '{"a":0.12345678901234567890}',
        '{"a":"12345678901234567890123"}',
        '{"a":"\\\\u0000"}',
        nested(MAX_DEPTH - 1),
    ],
)
def test_what_only_looks_dangerous_is_let_through(params: str) -> None:
    message = parse(with_params(params))
    assert isinstance(message, Request)
    assert message.params == orjson.loads(params)
    assert type(message.params) is FrozenDict
