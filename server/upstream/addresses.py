"""Which network addresses a user-supplied URL may lead to. Pure: no resolver, no socket.

A server that fetches what its users name can be made to read its own network (server-side request forgery).
So only addresses of the public internet are allowed, whatever notation or tunnel they hide in.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

__all__ = ["is_public", "parse_address"]

# Prefixes that carry an IPv4 address inside an IPv6 one: the inner address decides.
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215: always somebody's own network
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291 section 2.5.5.1, deprecated


def parse_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` spells in the usual notation, without a zone; None for a name.

    Decimal, octal and short forms (`2130706433`, `0177.1`) are not understood here and go to the resolver
    like any name; what it makes of them is checked like any other answer.
    """
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address belongs to the public internet.

    Loopback, private, link-local, carrier-grade NAT (RFC 6598), multicast, documentation, benchmarking and
    reserved ranges do not; nor do IPv6 forms that lead to such an IPv4 address.
    """
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
        if address.scope_id is not None or address in _NAT64_LOCAL or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
