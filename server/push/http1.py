"""HTTP/1.1 as far as this port speaks it: request heads in, whole responses out. Pure.

Heads are read by the WebSocket library's own parser, for upgrades and for everything else: one reading of a
request, whatever it turns out to be. There are no bodies to read; only GET and HEAD get further.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from protocol.transport import SUBPROTOCOL
from server.push.inbound import QUIET

__all__ = [
    "HEAD_END",
    "BadHead",
    "plain_headers",
    "problem_response",
    "read_head",
    "response_head",
    "split_target",
    "wants_keep_alive",
]

HEAD_END: Final = b"\r\n\r\n"

_SUBPROTOCOLS: Final = [Subprotocol(SUBPROTOCOL)]


class BadHead(Exception):
    """A request head that is refused before anybody looks at what it asks for."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def read_head(head: bytes) -> tuple[ServerProtocol, Request]:
    """The request, and the library's handshake that has read it. Raises BadHead."""
    protocol = ServerProtocol(subprotocols=_SUBPROTOCOLS, logger=QUIET)
    protocol.receive_data(head)
    for event in protocol.events_received():
        if isinstance(event, Request):
            return protocol, event
    match protocol.handshake_exc:
        case RequestLineTooLong():
            raise BadHead(HTTPStatus.REQUEST_URI_TOO_LONG, "The request line is too long.")
        case HeaderLineTooLong() | TooManyHeaders():
            raise BadHead(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large.")
        case _:
            raise BadHead(HTTPStatus.BAD_REQUEST, "This is not an HTTP request that can be read.")


def split_target(target: str) -> tuple[str, str]:
    """The percent-decoded path and the raw query of a request's target. Raises BadHead."""
    path, _, query = target.partition("?")
    try:
        decoded = unquote_to_bytes(path).decode() if "%" in path else path
    except UnicodeDecodeError as error:
        raise BadHead(HTTPStatus.BAD_REQUEST, "The path is not UTF-8.") from error
    if not decoded.startswith("/") or not decoded.isprintable():
        raise BadHead(HTTPStatus.BAD_REQUEST, "The path must begin with a slash.")
    return decoded, query.partition("#")[0]


def plain_headers(request: Request) -> dict[str, str]:
    """Lower-case names; what was repeated is joined (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in request.headers.raw_items():
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def wants_keep_alive(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the client may ask for more over the same socket (RFC 9112, section 9.3)."""
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    if request.protocol == "HTTP/1.0":
        return "keep-alive" in options
    return "close" not in options


def response_head(status: int, headers: Mapping[str, str], length: int, *, keep_alive: bool) -> bytes:
    """Everything up to the body. Headers that would break the message are left out, never sent."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    # RFC 9110, section 8.6: no length where there can be no body.
    if status not in {204, 304}:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in headers.items() if _is_safe(name) and _is_safe(value)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def problem_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A refusal in a sentence; the socket closes after it."""
    body = text.encode() + b"\n"
    own = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **(headers or {})}
    return response_head(status, own, len(body), keep_alive=False) + body


def _is_safe(text: str) -> bool:
    return "\r" not in text and "\n" not in text
