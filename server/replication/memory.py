"""The bus of a process that is alone, and of several replicas inside one process.

Buses made on one `MemoryHub` hear each other. Nothing is lost here but what overflows, and that counts as a
break, since whoever follows a bus must know that hints were missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import anyio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from protocol.ids import ReplicaId, UserId
from server.replication.bus import MAX_WORD_BYTES, BusStatistics, Hint

__all__ = ["MemoryBus", "MemoryHub"]

# Users whose hints wait at one bus. Each is a dict entry; a replica that is so far behind looks at all rows.
_MAX_WAITING = 10_000
_MAX_WORDS = 256
_NAMELESS = ReplicaId("")


class MemoryHub:
    """Where the buses of one process meet."""

    __slots__ = ("buses",)

    def __init__(self) -> None:
        self.buses: list[MemoryBus] = []


class MemoryBus:
    """A `Bus` in memory. Alone on its own hub it carries nothing, and is healthy."""

    def __init__(
        self,
        hub: MemoryHub | None = None,
        *,
        replica: ReplicaId = _NAMELESS,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        self._hub = hub or MemoryHub()
        self._hub.buses.append(self)
        self._replica = replica
        self._words: deque[bytes] = deque()
        self._on_word: Callable[[bytes], None] = _ignore
        self._watched: set[UserId] = set()
        self._waiting: dict[UserId | None, int] = {}
        self._max_waiting = max_waiting
        self._wake = anyio.Event()
        self._overflowed = False
        self._away = False
        self._announced = self._received = self._dropped = self._breaks = 0

    @property
    def healthy(self) -> bool:
        return not (self._away or self._overflowed)

    def announce(self, hint: Hint) -> None:
        self._announced += 1
        if self._away:
            self._dropped += 1
            return
        for bus in self._hub.buses:
            if bus is not self:
                bus._take(hint)

    def watch(self, user: UserId) -> None:
        self._watched.add(user)

    def unwatch(self, user: UserId) -> None:
        self._watched.discard(user)

    async def wait_watching(self, users: Iterable[UserId]) -> None:
        """Here users are watched at once."""

    def tell(self, word: bytes, to: ReplicaId | None = None) -> None:
        if self._away or len(word) > MAX_WORD_BYTES:
            self._dropped += 1
            return
        for bus in self._hub.buses:
            if to is None or bus._replica == to:
                bus._take_word(word)

    def hear(self, on_word: Callable[[bytes], None]) -> None:
        self._on_word = on_word

    def cut(self) -> None:
        """Takes this bus off the hub, as a network would: what is said meanwhile is lost."""
        if not self._away:
            self._away = True
            self._breaks += 1
            self._wake.set()

    def mend(self) -> None:
        """Joins it again."""
        self._away = False
        self._wake.set()

    async def run(
        self,
        on_hint: Callable[[Hint], None],
        on_health: Callable[[bool], None],
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        told = True
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            if self._overflowed:
                # Told once as broken and once as whole: both at once, since nothing needs mending.
                self._overflowed = False
                on_health(False)
                told = False
            if told != self.healthy:
                told = self.healthy
                on_health(told)
            waiting, self._waiting = self._waiting, {}
            for user, seq in waiting.items():
                self._received += 1
                on_hint(Hint(user, seq))
            while self._words:
                self._on_word(self._words.popleft())

    def statistics(self) -> BusStatistics:
        return BusStatistics(self._announced, self._received, self._dropped, len(self._watched), self._breaks)

    def _take(self, hint: Hint) -> None:
        if self._away or (hint.user is not None and hint.user not in self._watched):
            return
        known = self._waiting.get(hint.user, -1)
        if known < 0 and len(self._waiting) >= self._max_waiting:
            self._dropped += 1
            if not self._overflowed:
                self._overflowed = True
                self._breaks += 1
        else:
            self._waiting[hint.user] = max(known, hint.seq)
        self._wake.set()

    def _take_word(self, word: bytes) -> None:
        if self._away:
            return
        if len(self._words) >= _MAX_WORDS:
            self._words.popleft()
            self._dropped += 1
        self._words.append(word)
        self._wake.set()


def _ignore(_: bytes) -> None:
    """Before anybody listens."""
