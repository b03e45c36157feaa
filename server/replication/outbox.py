"""What waits to be said on the bus: bounded, and of each user only the newest hint."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final, TypeAlias

from anyio import Event

from protocol.ids import ReplicaId, UserId
from server.replication.bus import Hint

__all__ = ["Outbox", "Said"]

Said: TypeAlias = Hint | tuple[bytes, ReplicaId | None]

# Words are few (an operator's question, a sign of life): this is minutes of them.
_MAX_WORDS: Final = 256


class Outbox:
    """At the limit the oldest goes: the newest is what the others know least, and the look mends the rest."""

    def __init__(self, most_hints: int) -> None:
        self._most_hints = most_hints
        self._hints: dict[UserId | None, int] = {}
        self._words: deque[tuple[bytes, ReplicaId | None]] = deque()
        self._filled = Event()
        self.dropped = 0

    def put_hint(self, hint: Hint) -> None:
        """Keeps it, in the place of an older one of that user."""
        seq = max(hint.seq, self._hints.pop(hint.user, hint.seq))
        if len(self._hints) >= self._most_hints:
            del self._hints[next(iter(self._hints))]
            self.dropped += 1
        self._hints[hint.user] = seq
        self._filled.set()

    def put_word(self, word: bytes, to: ReplicaId | None) -> None:
        """Keeps it, for one replica or for all."""
        if len(self._words) >= _MAX_WORDS:
            self._words.popleft()
            self.dropped += 1
        self._words.append((word, to))
        self._filled.set()

    async def wait(self) -> None:
        """Returns when there is something to send."""
        while not (self._hints or self._words):
            self._filled = Event()
            await self._filled.wait()

    def take(self, most: int) -> list[Said]:
        """Takes out what goes next: all words, and up to so many hints, the oldest first."""
        words: list[Said] = list(self._words)
        self._words.clear()
        hints = [Hint(user, seq) for user, seq in islice(self._hints.items(), most)]
        for hint in hints:
            del self._hints[hint.user]
        return words + list(hints)
