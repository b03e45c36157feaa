"""The seam between replicas: announcements of writes, as hints; and words between processes.

A hint says "the rows of this user have reached that seq". Nothing depends on it arriving: replicas compare
their sessions with the store in any case, every few seconds. It only makes them quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from protocol.ids import ReplicaId, UserId

__all__ = ["MAX_WORD_BYTES", "Bus", "BusStatistics", "Hint"]

MAX_WORD_BYTES: Final = 1 << 20
"""A longer word is dropped, by whoever is to send it and by whoever hears it."""


@dataclass(frozen=True, slots=True)
class Hint:
    """The rows of `user` have reached `seq`; `user` None: the rows that belong to nobody (provider settings,
    revocations)."""

    user: UserId | None
    seq: int


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """Counts since the start."""

    announced: int = 0
    received: int = 0
    dropped: int = 0
    """Announcements that could not be kept or sent, and received messages that made no sense."""
    watched: int = 0
    """Users watched now."""
    breaks: int = 0


class Bus(Protocol):
    """Carries hints between replicas.

    Guarantees: each hint arrives at most once at each replica that watches its user; some never do; there is
    no order between announcers. A replica may hear its own. Hints about nobody (`user` None) reach everybody.
    After a break (`healthy` turned False) anything may have been missed. Words are as unsure as hints.
    """

    @property
    def healthy(self) -> bool:
        """Whether hints get through, as far as can be known."""
        ...

    def announce(self, hint: Hint) -> None:
        """Tells the others. Never waits and never raises: what cannot be sent is dropped and counted.

        Announcements wait in bounded memory, the oldest go first; of one user only the newest waits.
        """
        ...

    def watch(self, user: UserId) -> None:
        """Asks for the hints of `user`. Never waits: hints come from some moment soon after. Idempotent."""
        ...

    def unwatch(self, user: UserId) -> None:
        """Stops them, soon. Idempotent; a hint under way may still arrive."""
        ...

    async def wait_watching(self, users: Iterable[UserId]) -> None:
        """Returns once hints of these watched users come, or after a moment if that can't be known: whoever
        reads rows after this hears of what is written later."""
        ...

    def tell(self, word: bytes, to: ReplicaId | None = None) -> None:
        """Says something (a JSON object) to one replica, or to all. Never waits, never raises; may be lost.
        Whoever speaks to all may hear itself."""
        ...

    def hear(self, on_word: Callable[[bytes], None]) -> None:
        """Has `on_word` called for each word from now on; it must not wait nor raise."""
        ...

    async def run(
        self,
        on_hint: Callable[[Hint], None],
        on_health: Callable[[bool], None],
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        """Serves until cancelled; started once, before anything else is asked of the bus.

        Calls `on_hint` for each hint and `on_health` whenever `healthy` turned; both must not wait nor raise.
        `task_status.started()` is called once the bus is ready, or is known to be away.
        """
        ...

    def statistics(self) -> BusStatistics:
        """What it has done."""
        ...
