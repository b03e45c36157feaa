"""What is decided about a request without waiting."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError

from protocol.closing import CloseCode
from server.push.handshake import DEFLATE, Offer, Refusal, is_origin_allowed, read_offer
from server.push.http1 import BadHead, plain_headers, read_head, response_head, split_target, wants_keep_alive


@pytest.mark.parametrize(
    ("headers", "offer"),
    [
        ({}, None),
        ({"authorization": "Bearer abc"}, Offer("abc", by_subprotocol=False)),
        ({"authorization": "bearer  abc "}, Offer("abc", by_subprotocol=False)),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer"}, None),
        ({"sec-websocket-protocol": "freya.v1, bearer.abc"}, Offer("abc", by_subprotocol=True)),
        ({"sec-websocket-protocol": "freya.v1"}, None),
        (
            {"authorization": "Bearer a", "sec-websocket-protocol": "freya.v1, bearer.b"},
            Offer("a", by_subprotocol=False),
        ),
    ],
)
def test_a_token_is_in_the_header_or_among_the_subprotocols(
    headers: dict[str, str], offer: Offer | None
) -> None:
    assert read_offer(headers) == offer


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "api.example", True),
        ("https://api.example", "api.example", True),
        ("https://API.example:8443", "api.example:8443", True),
        ("https://app.example", "api.example", True),
        ("https://evil.example", "api.example", False),
        ("https://api.example.evil.example", "api.example", False),
        ("null", "api.example", False),
        ("https://api.example", "", False),
        ("http://[", "api.example", False),
    ],
)
def test_an_origin_is_nobodys_or_ours_or_on_the_list(origin: str | None, host: str, allowed: bool) -> None:
    assert is_origin_allowed(origin, host, frozenset({"https://app.example"})) is allowed


def test_a_star_allows_any_origin() -> None:
    assert is_origin_allowed("https://evil.example", "api.example", frozenset({"*"}))


def test_a_refusal_says_the_same_as_a_status_and_as_a_code() -> None:
    refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, CloseCode.OVERLOAD, "Full.", 1.2)
    assert refusal.headers == {"Retry-After": "2"}
    assert refusal.reason == "retryInMs=1200"
    wrong = Refusal(HTTPStatus.UNAUTHORIZED, CloseCode.UNAUTHENTICATED, "Wrong.")
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer ")
    assert wrong.reason == ""


def test_compression_is_agreed_on_without_context_takeover() -> None:
    agreed, extension = DEFLATE.process_request_params([("client_max_window_bits", None)], [])
    assert ("server_no_context_takeover", None) in agreed
    assert ("client_no_context_takeover", None) in agreed
    assert ("server_max_window_bits", "12") in agreed
    assert extension.local_max_window_bits == 12


def test_a_client_that_wants_a_smaller_window_gets_no_compression() -> None:
    with pytest.raises(NegotiationError):
        DEFLATE.process_request_params([("server_max_window_bits", "10")], [])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_a_bad_head_is_refused_with_its_status(head: bytes, status: int) -> None:
    with pytest.raises(BadHead) as caught:
        read_head(head)
    assert caught.value.status == status


def test_headers_are_lower_case_and_repeated_ones_are_joined() -> None:
    _, request = read_head(b"GET / HTTP/1.1\r\nAccept: a\r\nACCEPT: b\r\n\r\n")
    assert plain_headers(request) == {"accept": "a, b"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", ("/", "")),
        ("/a%20b?x=%20#y", ("/a b", "x=%20")),
        ("/%2e%2e/x", ("/../x", "")),
        ("/?", ("/", "")),
    ],
)
def test_a_path_is_decoded_once_and_the_query_is_left_alone(target: str, expected: tuple[str, str]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize("target", ["*", "http://x/", "/%00", "/%ff", "/%0a", ""])
def test_a_path_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(BadHead):
        split_target(target)


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [("1.1", "", True), ("1.1", "close", False), ("1.0", "", False), ("1.0", "Keep-Alive", True)],
)
def test_a_socket_is_kept_where_http_says_so(version: str, connection: str, kept: bool) -> None:
    head = f"GET / HTTP/{version}\r\nConnection: {connection}\r\n\r\n".encode()
    _, request = read_head(head)
    assert wants_keep_alive(request, plain_headers(request)) is kept


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_header_can_break_out_of_an_answer(name: str, value: str) -> None:
    head = response_head(200, {name: value}, 5, keep_alive=False)
    assert head.count(b"\r\n\r\n") == 1
    assert head.endswith(b"\r\n\r\n")
    assert len(head.split(b"\r\n")) <= 7
