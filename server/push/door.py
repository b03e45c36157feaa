"""Where a greeted socket meets the gateway: what the one brings, and what the other is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from server.http.types import HttpRequest, HttpResponse
from server.push.handshake import Offer
from server.push.params import Wish

if TYPE_CHECKING:
    from server.push.hub import Hub

__all__ = ["Door", "Greeted", "Upgrade"]


class Greeted(Protocol):
    """What the gateway asks of a socket that is not a connection yet."""

    def refuse(self, answer: bytes) -> None:
        """Answers with this, and ends once the client has taken it in."""
        ...

    def leave(self) -> None:
        """Lets the socket go: it has become a connection's."""
        ...

    def abort(self) -> None:
        """Drops it without a word."""
        ...


class Upgrade(NamedTuple):
    """A client at the door: what it offers and wishes, and the answer that would let it in."""

    transport: asyncio.Transport
    offer: Offer | None
    wish: Wish
    address: str | None
    """The client's own address, where it is known well enough to be counted."""
    response: bytes
    """The 101, ready to be written."""
    deflate: bool
    early: bytes
    """What came behind the request."""
    greeting: Greeted


class Door(Protocol):
    """What a greeting needs of the gateway."""

    hub: Hub

    def arrived(self, greeting: Greeted) -> bool:
        """A socket was accepted. False: there are far too many, drop it."""
        ...

    def departed(self, greeting: Greeted) -> None:
        """A greeting's socket is gone, or has become a connection's."""
        ...

    def upgrade(self, upgrade: Upgrade) -> None:
        """Lets the client in, or has the greeting refuse it."""
        ...

    def start(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Runs a task whose end nobody waits for."""
        ...

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Answers what is no upgrade. Never raises but for cancellation."""
        ...
