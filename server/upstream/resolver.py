"""Names to addresses, by the system's resolver, without being stopped by names that nobody answers for."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter

from server.upstream.addresses import Address, parse_address

__all__ = ["SystemResolver"]

_AT_ONCE: Final = 32


class SystemResolver:
    """`socket.getaddrinfo`, in threads of its own.

    A lookup cannot be called off: whoever waits may leave, the thread stays until the system gives up. Users
    who name dead domains would so use up the event loop's threads, and with them every other lookup of the
    process. Here at most `at_once` threads can be stuck; past that, lookups fail at once.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._limiter: CapacityLimiter | None = None
        # One object a lookup. Threads take theirs out; a set's own steps are safe across threads.
        self._under_way: set[object] = set()

    @property
    def busy(self) -> int:
        """Lookups that the system has not answered yet, also those that nobody waits for any more."""
        return len(self._under_way)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Raises OSError where the name has no address, or too many lookups are under way; UnicodeError for
        what can't be a name."""
        if len(self._under_way) >= self._at_once:
            raise OSError("too many names are being looked up")
        limiter = self._limiter = self._limiter or CapacityLimiter(self._at_once)
        lookup = object()
        self._under_way.add(lookup)
        begun = False

        def look() -> list[str]:
            nonlocal begun
            begun = True
            try:
                answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                return [str(sockaddr[0]) for _, _, _, _, sockaddr in answers]
            finally:
                self._under_way.discard(lookup)

        try:
            texts = await anyio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=limiter)
        finally:
            if not begun:
                self._under_way.discard(lookup)
        found = (parse_address(text) for text in dict.fromkeys(texts))
        return [address for address in found if address is not None]
