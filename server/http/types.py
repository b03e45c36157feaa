"""One HTTP request and its answer, as values. The listener makes the first and writes the second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

__all__ = ["EMPTY_HEADERS", "HttpHandler", "HttpRequest", "HttpResponse", "ListenerKind"]

EMPTY_HEADERS: Mapping[str, str] = MappingProxyType({})


class ListenerKind(Enum):
    """Who can reach the address that a request came in on; it decides what may be shown there."""

    LOOPBACK = "loopback"
    """Bound to a loopback address: only programs of this machine. Everything is shown."""
    PUBLIC = "public"
    """Anybody may come in. What is for operators asks for an `admin` bearer."""
    OPS = "ops"
    """The operators' own address (FREYA_OPS_LISTEN). Everything is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request whose head has been read whole. Bodies are not read: only GET and HEAD get this far.

    `path` is the target's path, percent-decoded once, starting with "/"; `query` the raw text behind "?" (""
    without one); `headers` have lower-case names, repeated ones joined by ", "; `peer` is the address the
    request came from.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY_HEADERS)
    peer: str = ""
    listener: ListenerKind = ListenerKind.PUBLIC


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An answer. The listener adds Content-Length, Date and Connection, and leaves the body out for HEAD."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY_HEADERS)


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Answers one request. Never raises but for cancellation; called concurrently for any number of requests."""
