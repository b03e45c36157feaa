"""Which network addresses a user-supplied URL may lead to. Pure: no resolver, no socket.

A server that fetches what its users name can be made to read its own network (server-side request forgery).
So only addresses of the public internet are allowed, whatever notation or tunnel they hide in. The lists are
our own and not those of `ipaddress`, which differ between Python versions.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["Address", "is_public", "parse_address"]

Address = IPv4Address | IPv6Address

# The IANA registry of special addresses (RFC 6890 and what came after), without the few that are global.
_SPECIAL_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays, given up by RFC 7526
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # Public by number, and answered by the host of every virtual machine of one large cloud.
        "168.63.129.16/32",
    )
)

# All that is given out for hosts (RFC 4291 section 2.4). Outside of it: loopback, unique local, link-local,
# site-local, multicast, and the deprecated forms of IPv4 inside IPv6.
_UNICAST_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: leads to an IPv4 address of anybody's choice; given up by RFC 7526
        "3fff::/20",
    )
)

# Leads to the IPv4 address in its last 32 bits, which decides (RFC 6052). Networks without IPv4 need it.
_NAT64: Final = IPv6Network("64:ff9b::/96")


def parse_address(host: str) -> Address | None:
    """The address that `host` spells in the usual notation, without a zone; None for a name.

    Decimal, octal and short forms (`2130706433`, `0177.1`) are not understood here and go to the resolver
    like any name; what it makes of them is checked like any other answer.
    """
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet.

    Loopback, private, link-local, carrier-grade NAT, multicast, documentation, benchmarking and reserved
    ranges do not; nor do IPv6 forms that lead to such an IPv4 address, nor tunnels.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    inner = address.ipv4_mapped
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)
