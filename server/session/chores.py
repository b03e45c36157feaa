"""What is done for all sessions now and then: looking, saving, letting go. One loop each for the process,
however many sessions there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

import structlog
from anyio import Event
from anyio.abc import TaskGroup

from server.engine.clock import Clock, expire_after
from storage.errors import StorageUnavailable

__all__ = ["Chore", "LookChore"]

# Replicas that were started together must not all ask at the same moment.
_JITTER: Final = 0.2

_log = structlog.stdlib.get_logger(__name__)


class Chore:
    """Something that is done every few seconds, give or take, until the task group ends."""

    def __init__(
        self, *, clock: Clock, rng: Random, every_s: float, do: Callable[[], Awaitable[object]]
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._every_s = every_s
        self._do = do
        self._now = Event()

    def start(self, group: TaskGroup, name: str) -> None:
        """Begins with a pause."""
        group.start_soon(self._run, name=name)

    def soon(self) -> None:
        """Has it done at once (once more, where it is being done)."""
        self._now.set()

    def pause_s(self) -> float:
        """How long to wait for the next time, before jitter."""
        return self._every_s

    async def attempt(self) -> None:
        """Does it once."""
        await self._do()

    async def _run(self) -> None:
        while True:
            with expire_after(self._clock, self.pause_s() * self._rng.uniform(1 - _JITTER, 1 + _JITTER)):
                await self._now.wait()
            self._now = Event()
            try:
                await self.attempt()
            except Exception:
                # The top of a task that must never end: the next turn may do better.
                _log.exception("chore_failed")


class LookChore(Chore):
    """The look: more often while the bus is away, at once when it has come back."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Random,
        every_s: float,
        alone_s: float,
        healthy: Callable[[], bool],
        do: Callable[[], Awaitable[object]],
    ) -> None:
        super().__init__(clock=clock, rng=rng, every_s=every_s, do=do)
        self._alone_s = alone_s
        self._healthy = healthy
        self.trouble = False
        """Whether the store did not answer the last time."""

    def pause_s(self) -> float:
        return self._every_s if self._healthy() else self._alone_s

    async def attempt(self) -> None:
        try:
            await self._do()
        except StorageUnavailable as problem:
            if not self.trouble:
                _log.warning("look_failed", problem=problem.reason)
            self.trouble = True
        else:
            if self.trouble:
                _log.info("look_works_again")
            self.trouble = False
