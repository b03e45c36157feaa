"""Web addresses as users write them. Pure."""

from __future__ import annotations

import re
from typing import Final

import httpx

from server.upstream.addresses import parse_address

__all__ = ["MOST_CHARACTERS", "follow", "host_of", "origin", "web_address"]

MOST_CHARACTERS: Final = 2048

_NAME: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_-]{1,63}\.?")
_PORTS: Final = {"http": 80, "https": 443}


def web_address(text: str) -> httpx.URL:
    """The address, if it is an absolute one of http or https without a user name or password in it.

    Raises ValueError with a sentence for whoever wrote it.
    """
    try:
        url = httpx.URL(text.strip())
        scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
        url.host  # noqa: B018 -- decodes the name, which may be impossible
    except (httpx.InvalidURL, ValueError, TypeError):
        raise ValueError("that is not a web address") from None
    if scheme not in _PORTS:
        raise ValueError("only http and https addresses can be read")
    if url.userinfo:
        raise ValueError("a web address must not carry a user name or password")
    is_name = len(host) <= 253 and _NAME.fullmatch(host) is not None
    if not is_name and parse_address(host) is None:
        raise ValueError("that is not a web address")
    if len(text) > MOST_CHARACTERS or (port is not None and not 0 < port < 65536):
        raise ValueError("that is not a web address")
    return url


def follow(base: str, reference: str) -> str:
    """The address that a page at `base` means by `reference`. Raises ValueError for what is none, and where
    it would lead from encrypted to plain."""
    try:
        here = httpx.URL(base)
        target = web_address(str(here.join(reference)))
    except httpx.InvalidURL:
        raise ValueError("that is not a web address") from None
    if here.scheme == "https" and target.scheme != "https":
        raise ValueError("that address is without encryption")
    return str(target)


def host_of(address: str) -> str:
    """The host in an address, which must be one."""
    return httpx.URL(address).host


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials are given to (RFC 6454)."""
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme, 0)
