"""Listening sockets of the gateway."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from server.http.types import ListenerKind
from server.push.door import Door
from server.push.listener import Greeting

__all__ = ["Listener", "listen"]

_BACKLOG = 4096
# How long a TLS peer may take for its part of the handshake, and of the closing one.
_TLS_HANDSHAKE_S = 10.0
_TLS_SHUTDOWN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where to listen, and what may be seen there. `sockets`, bound already, go before host and port."""

    host: str = "127.0.0.1"
    port: int = 8080
    sockets: tuple[socket.socket, ...] = ()
    kind: ListenerKind = ListenerKind.LOOPBACK
    counts_addresses: bool = False
    """Whether peers' addresses are their own (no balancer in between), so that a limit may count them."""
    reuse_port: bool = False
    """Whether several processes share the port (SO_REUSEPORT)."""
    tls: ssl.SSLContext | None = None


@asynccontextmanager
async def listen(door: Door, listener: Listener) -> AsyncGenerator[tuple[tuple[str, int], ...]]:
    """Accepts for as long as the block runs; gives the addresses that are bound. Raises OSError where one is
    taken. Sockets that were accepted stay open after it."""
    loop = asyncio.get_running_loop()

    def greeting() -> Greeting:
        return Greeting(door, listener.kind, counts_address=listener.counts_addresses)

    servers: list[asyncio.Server] = []
    try:
        for sock in listener.sockets or _bind(listener):
            _tune(sock, door.hub.options.unsent_low_bytes)
            servers.append(
                await loop.create_server(
                    greeting,
                    sock=sock,
                    backlog=_BACKLOG,
                    ssl=listener.tls,
                    ssl_handshake_timeout=_TLS_HANDSHAKE_S if listener.tls else None,
                    ssl_shutdown_timeout=_TLS_SHUTDOWN_S if listener.tls else None,
                )
            )
        yield tuple(_address(sock) for server in servers for sock in server.sockets)
    finally:
        for server in servers:
            server.close()


def _bind(listener: Listener) -> list[socket.socket]:
    """A socket for each address that the host's name has."""
    found = socket.getaddrinfo(
        listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            bound.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listener.reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _tune(sock: socket.socket, unsent_low_bytes: int) -> None:
    """What accepted sockets inherit."""
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Without it the kernel takes megabytes of a slow client's old changes, which then can't be conflated.
        option: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, unsent_low_bytes)


def _address(sock: socket.socket) -> tuple[str, int]:
    match sock.getsockname():
        case (str(host), int(port)) | (str(host), int(port), _, _):
            return host, port
        case name:
            return str(name), 0
