"""What waits to be written to one socket, beside feed changes (of which only the newest state counts).

It exists only while something waits. Everything in it is bounded: replies by count and bytes (past them,
reading pauses), everything else keeps the newest of its kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["Outbox", "Reply"]

Reply: TypeAlias = "bytes | Callable[[], bytes]"
"""A frame, or what makes it when it is written: an answer that must hold the newest state."""

_MAX_REPLY_BYTES: Final = 256 * 1024
_MAX_NOTICES: Final = 128


class Outbox:
    """Frames of one connection in the order in which they will be written."""

    __slots__ = ("_changed", "_notices", "_pong", "_replies", "_reply_bytes", "answers_first")

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque()
        self._reply_bytes = 0
        self._notices: dict[str, bytes] = {}
        self._changed: dict[str, bytes] = {}
        self._pong = b""
        self.answers_first = False
        """Whether replies go before feed changes, once: coming back from the background answers first."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._replies or self._notices or self._changed or self._pong)

    @property
    def has_replies(self) -> bool:
        """Whether answers wait."""
        return bool(self._replies)

    def has_room(self, max_replies: int) -> bool:
        """Whether more requests may be read, whose replies would have to wait here."""
        return len(self._replies) < max_replies and self._reply_bytes < _MAX_REPLY_BYTES

    def reply(self, reply: Reply) -> None:
        """Adds an answer. All of them are written, in this order."""
        self._replies.append(reply)
        if isinstance(reply, bytes):
            self._reply_bytes += len(reply)

    def notice(self, kind: str, frame: bytes) -> None:
        """Keeps the newest frame of that kind."""
        self._notices.pop(kind, None)
        self._notices[kind] = frame
        if len(self._notices) > _MAX_NOTICES:
            del self._notices[next(iter(self._notices))]

    def changed(self, source_id: str, frame: bytes) -> None:
        """Keeps the newest `source.changed` of that source."""
        self._changed.pop(source_id, None)
        self._changed[source_id] = frame

    def pong(self, frame: bytes) -> None:
        """Keeps the answer to the newest ping (RFC 6455, section 5.5.3 asks for no more)."""
        self._pong = frame

    def take_replies(self, parts: list[bytes], room: int) -> int:
        """Moves replies to `parts` until about `room` bytes are taken; returns what is left of it."""
        while self._replies and room > 0:
            reply = self._replies.popleft()
            if isinstance(reply, bytes):
                self._reply_bytes -= len(reply)
            else:
                reply = reply()
            parts.append(reply)
            room -= len(reply)
        return room

    def take_notices(self, parts: list[bytes]) -> None:
        """Moves the pong and the notices to `parts`."""
        if self._pong:
            parts.append(self._pong)
            self._pong = b""
        if self._notices:
            parts.extend(self._notices.values())
            self._notices.clear()

    def take_changed(self, parts: list[bytes]) -> None:
        """Moves the sources' new states to `parts`."""
        if self._changed:
            parts.extend(self._changed.values())
            self._changed.clear()
