"""Upgrade requests: read, and answered with the 101 that would let the client in.

The WebSocket library reads and judges them. What clients nearly always send, a GET with each header once and
nothing unusual in any of them, is read without it, at a fraction of the cost: when thousands come back at
once, much of what they cost is this. A test holds the two readings equal.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from email.utils import formatdate
from functools import lru_cache
from hashlib import sha1
from time import time
from typing import Final, NamedTuple, Protocol

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.utils import GUID

from protocol.transport import SUBPROTOCOL
from server.push.handshake import DEFLATE
from server.push.inbound import QUIET

__all__ = ["Answer", "Ordinary", "Unusual", "Upgrading", "read_ordinary"]

# With less than this in all, no line is longer than the library allows.
_MAX_BYTES: Final = 4096
_WORD: Final = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_HEAD: Final = re.compile(
    rf"GET (?P<target>/[!-~]*) HTTP/1\.1\r\n(?P<headers>(?:{_WORD}:[\t -~]*\r\n){{1,64}})\r\n".encode()
)
_WORDS: Final = re.compile(rf"{_WORD}(?:, ?{_WORD})*")
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_CONNECTIONS: Final = frozenset({"upgrade", "keep-alive, upgrade"})
# Bodies, which no upgrade has, are the library's to refuse.
_UNUSUAL: Final = frozenset({"content-length", "transfer-encoding"})


class Answer(NamedTuple):
    """The response to an upgrade request, ready to be written. `accepted`: it is the 101; `deflate`: it
    agrees on compression."""

    accepted: bool
    response: bytes
    deflate: bool


class Upgrading(Protocol):
    """An upgrade request that has been read."""

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        ...

    def answer(self, *, deflate: bool) -> Answer:
        """Judges it; `deflate`: compression may be agreed on."""
        ...


class Unusual:
    """Judged by the library."""

    __slots__ = ("_protocol", "_request", "headers")

    def __init__(self, protocol: ServerProtocol, request: Request, headers: dict[str, str]) -> None:
        self._protocol = protocol
        self._request = request
        self.headers = headers

    def answer(self, *, deflate: bool) -> Answer:
        """See `Upgrading`."""
        protocol = self._protocol
        if deflate:
            protocol.available_extensions = [DEFLATE]
        response = protocol.accept(self._request)
        protocol.send_response(response)
        written = b"".join(protocol.data_to_send())
        return Answer(response.status_code == 101, written, bool(protocol.extensions))


class Ordinary:
    """Known to be right."""

    __slots__ = ("headers", "target")

    def __init__(self, target: str, headers: dict[str, str]) -> None:
        self.target = target
        self.headers = headers

    def answer(self, *, deflate: bool) -> Answer:
        """See `Upgrading`. Headers are in the library's order."""
        digest = sha1((self.headers["sec-websocket-key"] + GUID).encode(), usedforsecurity=False).digest()
        agreed = _agreed(self.headers.get("sec-websocket-extensions", "")) if deflate else None
        extensions = "" if agreed is None else f"Sec-WebSocket-Extensions: {agreed}\r\n"
        response = (
            f"HTTP/1.1 101 Switching Protocols\r\nDate: {_date(int(time()))}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {b2a_base64(digest, newline=False).decode()}\r\n{extensions}"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        )
        return Answer(True, response.encode(), agreed is not None)


def read_ordinary(head: bytes) -> Ordinary | None:
    """The upgrade request, if nothing about it is unusual; None: it is for the library to read."""
    found = _HEAD.fullmatch(head) if len(head) <= _MAX_BYTES else None
    if found is None:
        return None
    lines = found["headers"].decode("ascii").split("\r\n")
    lines.pop()
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    if len(headers) != len(lines) or not _is_ordinary(headers):
        return None
    return Ordinary(found["target"].decode("ascii"), headers)


def _is_ordinary(headers: dict[str, str]) -> bool:
    get = headers.get
    if (
        get("connection", "").lower() not in _CONNECTIONS
        or get("upgrade", "").lower() != "websocket"
        or get("sec-websocket-version") != "13"
        or not _KEY.fullmatch(get("sec-websocket-key", ""))
        or not _UNUSUAL.isdisjoint(headers)
    ):
        return False
    offered = get("sec-websocket-protocol", "")
    if offered != SUBPROTOCOL and not (
        _WORDS.fullmatch(offered) and SUBPROTOCOL in offered.replace(" ", "").split(",")
    ):
        return False
    try:
        _agreed(get("sec-websocket-extensions", ""))
    except InvalidHandshake:
        return False
    return True


@lru_cache(maxsize=64)
def _agreed(offered: str) -> str | None:
    """What is agreed on of the extensions that a client offers; few offers are made by all clients there are.
    Raises InvalidHandshake."""
    if not offered:
        return None
    protocol = ServerProtocol(extensions=[DEFLATE], logger=QUIET)
    agreed, _ = protocol.process_extensions(Headers({"Sec-WebSocket-Extensions": offered}))
    return agreed


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
