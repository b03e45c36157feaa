"""Who comes in, decided without waiting: an upgrade request is let on to authentication or refused.

Two kinds of refusal (the protocol's "Authentication"): a client that sent its token in a header sees an HTTP
status; a browser page sees none, so its upgrade completes and the connection closes with a code instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.typing import ExtensionParameter

from protocol.closing import CloseCode, retry_reason
from protocol.transport import TOKEN_SUBPROTOCOL_PREFIX
from server.push.frames import DEFLATE_WINDOW_BITS

__all__ = ["DEFLATE", "Offer", "Refusal", "is_origin_allowed", "read_offer"]


@dataclass(frozen=True, slots=True)
class Offer:
    """The token that a client offers, and whether it came as a subprotocol (as from a browser page)."""

    token: str
    by_subprotocol: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """No connection: said as an HTTP status or as a close code, whichever the client can see."""

    status: HTTPStatus
    code: CloseCode
    text: str
    retry_in_s: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the status."""
        headers: dict[str, str] = {}
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="freya", error="invalid_token"'
        if self.retry_in_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_in_s)))
        return headers

    @property
    def reason(self) -> str:
        """What goes with the close code."""
        return "" if self.retry_in_s is None else retry_reason(math.ceil(self.retry_in_s * 1000))


def is_origin_allowed(origin: str | None, host: str, allowed: frozenset[str]) -> bool:
    """No origin (not a page), the page of this very host, or one on the list."""
    if origin is None or "*" in allowed or origin.lower() in allowed:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def read_offer(headers: Mapping[str, str]) -> Offer | None:
    """The token of the request, if there is one. The header wins: whoever can set it sees the answer."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Offer(token.strip(), by_subprotocol=False)
    for offered in headers.get("sec-websocket-protocol", "").split(","):
        if offered.strip().startswith(TOKEN_SUBPROTOCOL_PREFIX):
            return Offer(offered.strip().removeprefix(TOKEN_SUBPROTOCOL_PREFIX), by_subprotocol=True)
    return None


class _OneWindow(ServerPerMessageDeflateFactory):
    """Compression only with the one window that all our frames are made for."""

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        agreed, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits != DEFLATE_WINDOW_BITS:
            raise NegotiationError("a smaller window than ours")
        return agreed, extension


DEFLATE: Final = _OneWindow(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=DEFLATE_WINDOW_BITS,
    client_max_window_bits=DEFLATE_WINDOW_BITS,
)
