"""Requests and their answers over one connection, and what the server says unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Final

import anyio

from protocol import encoding, jsonrpc
from protocol.client.failures import CallTimedOut, ConnectionLost, MessageTooBig, is_repeatable
from protocol.client.link import Link, LinkEnded
from protocol.closing import CloseCode
from protocol.errors import error_from_wire
from protocol.frozen import JsonObject, JsonValue
from protocol.reconnect import End
from protocol.transport import MAX_MESSAGE_BYTES

__all__ = ["Conversation"]


class _Pending:
    """A request that waits for its answer, and for being told that none will come."""

    __slots__ = ("answer", "answered", "method")

    def __init__(self, method: str) -> None:
        self.method = method
        self.answer: jsonrpc.Response | None = None
        self.answered = anyio.Event()


class Conversation:
    """What is said over one link. `run` reads it and must be running for a request to be answered.

    `on_notification` and `on_result` (method and result of every request that succeeded) are called in the
    order of the wire, before anything that came later is read.
    """

    def __init__(
        self,
        link: Link,
        on_notification: Callable[[str, JsonObject], None],
        on_result: Callable[[str, JsonValue], None],
    ) -> None:
        self._link = link
        self._on_notification = on_notification
        self._on_result = on_result
        self._ids: Final = count(1)
        self._pending: dict[int, _Pending] = {}
        self.max_message_bytes = MAX_MESSAGE_BYTES
        """The welcome may name a lower bound."""

    async def run(self) -> End:
        """Reads until the connection ends, and says how. Every request still waiting fails then."""
        try:
            while True:
                self._take(jsonrpc.parse(await self._link.receive()))
        except LinkEnded as ended:
            return ended.end
        except (jsonrpc.FrameError, ValueError) as nonsense:
            return End(CloseCode.PROTOCOL_ERROR, f"the server sent nonsense: {nonsense}")
        finally:
            for pending in self._pending.values():
                pending.answered.set()

    async def request(self, method: str, params: Mapping[str, object], timeout_s: float) -> JsonValue:
        """The result. Raises the RpcError that was answered, ConnectionLost, CallTimedOut, MessageTooBig.

        Cancelled, the request may or may not be done; its answer is dropped.
        """
        request_id = next(self._ids)
        message = encoding.request(request_id, method, params)
        if len(message) > self.max_message_bytes:
            raise MessageTooBig(method, repeatable=False)
        pending = self._pending[request_id] = _Pending(method)
        try:
            with anyio.fail_after(timeout_s):
                await self._link.send(message)
                await pending.answered.wait()
        except LinkEnded:
            pass  # as good as no answer
        except TimeoutError:
            raise CallTimedOut(method, repeatable=is_repeatable(method, params)) from None
        finally:
            del self._pending[request_id]
        if pending.answer is None:
            raise ConnectionLost(method, repeatable=is_repeatable(method, params))
        if pending.answer.error is not None:
            raise error_from_wire(pending.answer.error)
        return pending.answer.result

    async def notify(self, method: str, params: Mapping[str, object]) -> None:
        """Sends what wants no answer; where the connection is gone, nothing is sent and nobody minds."""
        with suppress(LinkEnded):
            await self._link.send(encoding.notification(method, params))

    def _take(self, message: jsonrpc.Message) -> None:
        match message:
            case jsonrpc.Notification(method, params):
                self._on_notification(method, params)
            case jsonrpc.Response(id=int(request_id)) if request_id in self._pending:
                self._answer(self._pending[request_id], message)
            case _:
                pass  # an answer nobody waits for any more, or a request: clients serve none

    def _answer(self, pending: _Pending, response: jsonrpc.Response) -> None:
        if pending.answer is None:
            pending.answer = response
            if response.error is None:
                self._on_result(pending.method, response.result)
            pending.answered.set()
