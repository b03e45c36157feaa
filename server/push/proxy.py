"""The PROXY protocol, versions 1 and 2: a balancer's word on whose connection it passes on.

As of https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. Pure: bytes in, an answer or a wish for
more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

__all__ = ["ProxyHeader", "ProxyProblem", "is_trusted", "read_proxy_header"]

_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_SIGNATURE: Final = b"PROXY "
# Section 2.1: the longest line of version 1, its end included.
_V1_MAX: Final = 107
# Addresses and extensions; real ones stay far below.
_V2_MAX: Final = 4096
_V2_HEAD: Final = 16


class ProxyProblem(Exception):
    """The bytes are not a PROXY header: the connection cannot be trusted to say anything."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`size` bytes that come before the client's own; `source` is its address, None for the proxy's own
    checks and for kinds of address that we don't count."""

    size: int
    source: str | None


def is_trusted(peer: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether that peer is one of the proxies whose word counts."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any(address in network or (mapped is not None and mapped in network) for network in networks)


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None while it is not whole. Raises ProxyProblem."""
    if data.startswith(_V2_SIGNATURE[: len(data)]):
        return _read_v2(data)
    if data.startswith(_V1_SIGNATURE[: len(data)]):
        return _read_v1(data)
    raise ProxyProblem("no PROXY protocol header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(data) >= _V1_MAX:
            raise ProxyProblem("the PROXY line has no end")
        return None
    match data[:end].split(b" "):
        case [b"PROXY", b"UNKNOWN", *_]:
            return ProxyHeader(end + 2, None)
        case [b"PROXY", b"TCP4" | b"TCP6", source, _, _, _]:
            try:
                return ProxyHeader(end + 2, str(ip_address(source.decode("ascii"))))
            except ValueError as error:
                raise ProxyProblem("the PROXY line names no address") from error
        case _:
            raise ProxyProblem("the PROXY line is malformed")


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD:
        return None
    version, command = data[12] >> 4, data[12] & 0x0F
    if version != 2 or command > 1:
        raise ProxyProblem("a PROXY header of an unknown version or command")
    length = int.from_bytes(data[14:16], "big")
    if length > _V2_MAX:
        raise ProxyProblem("the PROXY header is too long")
    size = _V2_HEAD + length
    if len(data) < size:
        return None
    # LOCAL (0): the proxy's own connection, a health check.
    return ProxyHeader(size, _v2_source(data[13], data[_V2_HEAD:size]) if command == 1 else None)


def _v2_source(family: int, addresses: bytes) -> str | None:
    match family:
        case 0x11 if len(addresses) >= 12:  # TCP over IPv4
            return str(ip_address(addresses[:4]))
        case 0x21 if len(addresses) >= 36:  # TCP over IPv6
            return str(ip_address(addresses[:16]))
        case 0x11 | 0x21:
            raise ProxyProblem("the PROXY header's addresses are cut short")
        case _:
            return None
