"""A balancer's word on whose connection it passes on."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.push.proxy import ProxyHeader, ProxyProblem, is_trusted, read_proxy_header

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
TCP4 = V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x1F, 0x90])
TCP6 = V2 + b"\x21\x21\x00\x24" + bytes([0x20, 0x01, 0x0D, 0xB8]) + bytes(11) + b"\x01" + bytes(20)


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 8080\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::1 ::1 4660 8080\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN what ever\r\n", None),
        (TCP4, "192.0.2.7"),
        (TCP6, "2001:db8::1"),
        (V2 + b"\x20\x00\x00\x00", None),  # LOCAL: the proxy's own health check
        (V2 + b"\x21\x31\x00\x03abc", None),  # a Unix socket
        (V2 + b"\x21\x11\x00\x0f" + TCP4[16:] + b"tlv", "192.0.2.7"),
    ],
)
def test_a_header_is_read_however_it_arrives(header: bytes, source: str | None) -> None:
    assert read_proxy_header(header + b"GET /") == ProxyHeader(len(header), source)
    for cut in range(len(header)):
        assert read_proxy_header(header[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP9 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * 101,
        V2 + b"\x31\x11\x00\x0c" + bytes(12),
        V2 + b"\x22\x11\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\x00\x04" + bytes(4),
        V2 + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_a_problem_at_once(data: bytes) -> None:
    with pytest.raises(ProxyProblem):
        read_proxy_header(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_a_wish_for_more_or_a_problem(data: bytes) -> None:
    for start in (b"", b"PROXY ", V2):
        try:
            read_proxy_header(start + data)
        except ProxyProblem:
            continue


def test_only_peers_of_the_networks_given_are_believed() -> None:
    networks = [ip_network("10.0.0.0/8"), ip_network("::1/128")]
    assert is_trusted("10.1.2.3", networks)
    assert is_trusted("::ffff:10.1.2.3", networks)
    assert is_trusted("::1", networks)
    assert not is_trusted("192.0.2.7", networks)
    assert not is_trusted("", networks)
    assert not is_trusted("10.1.2.3", [])
