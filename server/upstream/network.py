"""Connections that go only where they may: the very address that was checked is the one connected to.

Checking a name first and connecting by name afterwards would resolve it twice, and whoever owns the name may
answer differently the second time (DNS rebinding). So resolving, checking and connecting happen here, in one
place below HTTP; TLS above still asks for a certificate of the name.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from typing import cast

import anyio
import httpcore
import httpx

from server.upstream.addresses import Address, is_public, parse_address

__all__ = [
    "ForbiddenAddress",
    "GuardedBackend",
    "GuardedTransport",
    "MayReach",
    "Resolve",
    "anywhere",
    "tls_context",
]

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""The addresses of a name. Raises OSError (or UnicodeError) where there are none."""

MayReach = Callable[[Address], bool]
"""Whether a connection to this address is allowed."""

_MOST_ADDRESSES = 4  # of one name are tried: a name with hundreds must not buy hundreds of attempts


class ForbiddenAddress(httpcore.ConnectError):
    """The name leads to an address that may not be reached."""


def anywhere(address: Address) -> bool:
    """Allows every address: for servers whose users are trusted with the network they run in."""
    return True


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects where it may. One forbidden answer among a name's addresses forbids the name."""

    def __init__(self, resolver: Resolve, may_reach: MayReach = is_public) -> None:
        self._resolve = resolver
        self._may_reach = may_reach
        # httpcore has a stand-in of this name for installs without anyio, which hides the real one's type.
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises ForbiddenAddress, httpcore.ConnectError, httpcore.ConnectTimeout."""
        try:
            with anyio.fail_after(timeout):
                addresses = await self._addresses(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout("no answer from the resolver in time") from None
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(
                    str(address),
                    port,
                    timeout=timeout,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Always raises ForbiddenAddress: nothing outside is reached through a file."""
        raise ForbiddenAddress("a local socket is not an address of the internet")

    async def sleep(self, seconds: float) -> None:
        """Waits, as the interface asks."""
        await anyio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        spelled = parse_address(host)
        try:
            addresses = [spelled] if spelled is not None else await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name has no address") from None
        if not all(self._may_reach(address) for address in addresses):
            raise ForbiddenAddress("the address may not be reached")
        return addresses


@cache
def tls_context() -> ssl.SSLContext:
    """What servers' certificates are checked with: the authorities of the web, once read."""
    return httpx.create_ssl_context(trust_env=False)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a GuardedBackend. No proxy of the environment: it would connect for us,
    unchecked."""

    def __init__(self, backend: GuardedBackend, *, limits: httpx.Limits) -> None:
        context = tls_context()
        super().__init__(verify=context, trust_env=False, limits=limits)
        # httpx offers no parameter for the network backend; the pool it would make is made here instead.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=backend,
        )
