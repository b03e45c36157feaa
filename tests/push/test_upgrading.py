"""Upgrade requests: what is usual is read by hand, and nobody could tell."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.push.http1 import BadHead, plain_headers, read_head
from server.push.upgrading import Answer, Ordinary, Unusual, read_ordinary

KEY = base64.b64encode(bytes(range(16))).decode()
START = "GET /v1/feed?since=x HTTP/1.1"
USUAL = {
    "Host": "localhost:8080",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Protocol": "freya.v1",
}
PAGE = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache",
    "Origin": "http://localhost:8080",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Sec-WebSocket-Protocol": "freya.v1, bearer.eyJhbGciOiJIUzI1NiJ9.e30.abc-_d",
    "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
}


def head(headers: list[tuple[str, str]], start: str = START) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc-_d"},
        PAGE,
        PAGE | {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"},
        PAGE | {"Sec-WebSocket-Extensions": "permessage-deflate"},
        PAGE | {"Sec-WebSocket-Extensions": "x-webkit-deflate-frame"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10"},
    ],
)
def test_what_clients_send_is_read_without_the_library(more: dict[str, str]) -> None:
    assert_equal(request := head(list((USUAL | more).items())))
    assert isinstance(read_ordinary(request), Ordinary)


@pytest.mark.parametrize(
    "more",
    [
        {"Upgrade": "h2c"},
        {"Connection": "close"},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": KEY[:-1]},
        {"Sec-WebSocket-Protocol": "other"},
        {"Sec-WebSocket-Protocol": "freya.v1,, x"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; ="},
        {"Content-Length": "0"},
        {"Content-Length": "7"},
        {"Transfer-Encoding": "chunked"},
        {"X": "\xe9"},
        {"X": "y" * 5000},
    ],
)
def test_what_is_unusual_is_left_to_the_library(more: dict[str, str]) -> None:
    assert read_ordinary(head(list((USUAL | more).items()))) is None


@pytest.mark.parametrize(
    "request_",
    [
        head(list(USUAL.items()), "POST /v1/feed HTTP/1.1"),
        head(list(USUAL.items()), "GET /v1/feed HTTP/1.0"),
        head(list(USUAL.items()), "GET  /v1/feed HTTP/1.1"),
        head(list(USUAL.items()), "GET /v1/f\xe9\xe9d HTTP/1.1"),
        head([*USUAL.items(), ("upgrade", "websocket")]),
        head([]),
        head(list(USUAL.items())).replace(b"\r\n", b"\n"),
        head(list(USUAL.items())).replace(b"Host:", b"Host :"),
        head(list(USUAL.items())).replace(b"Upgrade: ", b"Upgrade:\r\n "),
        b"",
    ],
)
def test_a_head_of_another_shape_is_left_to_the_library(request_: bytes) -> None:
    assert read_ordinary(request_) is None


_VALUES = st.sampled_from(
    [
        *USUAL.values(),
        *PAGE.values(),
        "",
        " ",
        "\t",
        "13 ",
        "upgrade",
        "x, y",
        "freya.v1,x",
        "Keep-Alive, upgrade",
    ]
)
_NAMES = st.sampled_from(
    [*USUAL, *PAGE, "upgrade", "SEC-WEBSOCKET-KEY", "X-Other", "Content-Length", "bad name"]
)
_STARTS = st.sampled_from(
    [START, "GET / HTTP/1.1", "GET /%41?%42 HTTP/1.1", "PUT / HTTP/1.1", "GET x HTTP/1.1"]
)


@given(
    st.permutations(list(USUAL.items())),
    st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
    _STARTS,
    st.binary(max_size=3),
    st.integers(0, 400),
)
@example(list(USUAL.items()), [], START, b"", 0)
@example(list(USUAL.items()), [("Sec-WebSocket-Extensions", "permessage-deflate")], START, b"", 0)
def test_both_readings_are_equal(
    usual: list[tuple[str, str]], more: list[tuple[str, str]], start: str, dirt: bytes, at: int
) -> None:
    request = head(usual + more, start)
    assert_equal(request[:at] + dirt + request[at:])


def assert_equal(request: bytes) -> None:
    """If it is read by hand, the library reads the same, and answers the same."""
    ordinary = read_ordinary(request)
    if ordinary is None:
        return
    for deflate in (False, True):
        try:
            protocol, read = read_head(request)
        except BadHead as bad:
            raise AssertionError("the library would not read this at all") from bad
        headers = plain_headers(read)
        assert (read.method, read.path, read.protocol) == ("GET", ordinary.target, "HTTP/1.1")
        assert headers == ordinary.headers
        theirs = Unusual(protocol, read, headers).answer(deflate=deflate)
        assert undated(ordinary.answer(deflate=deflate)) == undated(theirs)


def undated(answer: Answer) -> Answer:
    """The same without the moment."""
    response, count = re.subn(rb"Date: [^\r]* GMT\r\n", b"", answer.response)
    assert count == 1
    return Answer(answer.accepted, response, answer.deflate)
