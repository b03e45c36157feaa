"""One connection of the client: from the handshake to the end. The only module that knows `websockets`."""

from __future__ import annotations

import ssl
from typing import Final

import anyio
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response as HttpResponse
from websockets.typing import Subprotocol

from protocol.client.options import Options
from protocol.closing import REFUSALS, CloseCode, retry_reason
from protocol.reconnect import End
from protocol.times import from_ms, to_ms
from protocol.transport import DEFAULT_HEARTBEAT_MS, HEARTBEAT_GRACE_MS, SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX

__all__ = ["Link", "LinkEnded", "open_link"]

_OPEN_TIMEOUT_S: Final = 10.0
# A peer that is told goodbye gets so long to answer; a dead one never does.
_CLOSE_TIMEOUT_S: Final = 1.0


class LinkEnded(Exception):
    """The connection is over, or never came to be."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


class _Connect(websockets_connect):
    """Follows no redirect: as a subprotocol, the token would go along to wherever it leads."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Link:
    """An open connection that carries whole messages. One reader at a time; any number of senders."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.dead_after_s: float | None = from_ms(DEFAULT_HEARTBEAT_MS + HEARTBEAT_GRACE_MS)

    async def receive(self) -> bytes:
        """The next message. Raises LinkEnded, also where nothing at all came for `dead_after_s`."""
        try:
            with anyio.fail_after(self.dead_after_s):
                return await self._socket.recv(decode=False)
        except ConnectionClosed:
            raise LinkEnded(self._end()) from None
        except TimeoutError:
            raise LinkEnded(End(CloseCode.SILENT, "the server fell silent")) from None

    async def send(self, message: bytes) -> None:
        """Sends one message. Raises LinkEnded. Cancelling it leaves the message sent or not, never half."""
        try:
            await self._socket.send(message, text=True)
        except ConnectionClosed:
            raise LinkEnded(self._end()) from None

    async def aclose(self, code: int = CloseCode.NORMAL) -> None:
        """Says goodbye, waits a moment for the answer, and drops the connection in any case.

        Anything but NORMAL tells a server that hears it late that nobody waits for answers any more.
        """
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await self._socket.close(code)
        self.abort()

    def abort(self) -> None:
        """Drops the connection at once; the reader learns of it as of a broken link."""
        self._socket.transport.abort()

    def _end(self) -> End:
        return End(self._socket.close_code or CloseCode.ABNORMAL, self._socket.close_reason or "")


async def open_link(url: str, token: str, options: Options, tls: ssl.SSLContext | None) -> Link:
    """Connects and shakes hands. Raises LinkEnded with the close code that the refusal amounts to."""
    headers = dict(options.headers)
    offered = [Subprotocol(SUBPROTOCOL)]
    if options.token_as == "subprotocol":  # noqa: S105 -- where it goes, not what it is
        offered.append(Subprotocol(TOKEN_SUBPROTOCOL_PREFIX + token))
    else:
        headers["Authorization"] = f"Bearer {token}"
    try:
        socket = await _Connect(
            url,
            subprotocols=offered,
            additional_headers=headers,
            compression="deflate" if options.deflate else None,
            open_timeout=_OPEN_TIMEOUT_S,
            # The server pings, and shows itself by its beat.
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT_S,
            ssl=tls or (True if url.startswith("wss:") else None),
        )
    except InvalidStatus as refused:
        raise LinkEnded(_refusal(refused.response)) from None
    except (OSError, WebSocketException) as failed:
        raise LinkEnded(End(CloseCode.ABNORMAL, str(failed) or type(failed).__name__)) from failed
    if socket.subprotocol != SUBPROTOCOL:
        await Link(socket).aclose()
        raise LinkEnded(End(CloseCode.PROTOCOL_ERROR, f"the server does not speak {SUBPROTOCOL}"))
    return Link(socket)


def _refusal(response: HttpResponse) -> End:
    """An HTTP refusal, as the close code that says the same."""
    code = REFUSALS.get(response.status_code, CloseCode.ABNORMAL)
    wait_s = next(iter(response.headers.get_all("Retry-After")), "")
    if code in (CloseCode.OVERLOAD, CloseCode.LIMIT) and wait_s.isascii() and wait_s.isdigit():
        return End(code, retry_reason(to_ms(int(wait_s[:6]))))
    return End(code, f"HTTP {response.status_code}")
