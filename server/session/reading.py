"""Reading the rows of live sessions: one read at a time for a user, so that what was read last is the truth.

Whoever asks while a read is under way gets the next one, which all who ask meanwhile share: a read that began
before somebody's write may not contain it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
from anyio import Event

from protocol.ids import UserId
from server.engine.tasks import TaskScope
from storage.errors import StorageUnavailable
from storage.loading import UserRows

__all__ = ["RowReader"]

_Load: TypeAlias = Callable[[UserId], Awaitable[UserRows]]

_log = structlog.stdlib.get_logger(__name__)


class _Round:
    """One read, and everybody who waits for it."""

    __slots__ = ("done", "error", "urgent")

    def __init__(self) -> None:
        self.done = Event()
        self.error: StorageUnavailable | None = None
        self.urgent = False


class RowReader:
    """Reads users' rows and hands them on, in the order in which the reads began."""

    def __init__(
        self, *, tasks: TaskScope, now: _Load, soon: _Load, apply: Callable[[UserId, UserRows], None]
    ) -> None:
        """`now` reads at once, `soon` together with others; `apply` takes the rows and must not wait."""
        self._tasks = tasks
        self._now = now
        self._soon = soon
        self._apply = apply
        self._next: dict[UserId, _Round | None] = {}  # of users of whom a read is under way
        self._owed: set[UserId] = set()

    @property
    def owed(self) -> frozenset[UserId]:
        """The users whose last read failed."""
        return frozenset(self._owed)

    def request(self, user: UserId) -> Event:
        """Has the rows read and applied soon. Never waits; a failed read is owed. The event is set when it
        is over, well or not."""
        return self._ask(user).done

    async def read(self, user: UserId, *, urgent: bool = False) -> None:
        """Returns once rows have been applied whose reading began after this call.

        `urgent`: without waiting for company. Raises StorageUnavailable; the read is then owed. Cancelled,
        the read goes on.
        """
        asked = self._ask(user)
        asked.urgent = asked.urgent or urgent
        await asked.done.wait()
        if asked.error is not None:
            raise StorageUnavailable(asked.error.outcome, asked.error.reason) from asked.error

    def _ask(self, user: UserId) -> _Round:
        waiting = self._next.get(user)
        if waiting is not None:
            return waiting
        asked = _Round()
        running = user in self._next
        self._next[user] = asked
        if not running:
            self._tasks.start(self._serve, user, name="session.read")
        return asked

    async def _serve(self, user: UserId) -> None:
        current: _Round | None = None
        try:
            while (current := self._next[user]) is not None:
                self._next[user] = None
                await self._read(user, current)
                current.done.set()
        finally:
            # Left early, at the end of the process: nobody may wait for ever.
            for asked in (current, self._next.pop(user)):
                if asked is not None and not asked.done.is_set():
                    asked.error = StorageUnavailable("none", "the server is going down")
                    asked.done.set()

    async def _read(self, user: UserId, current: _Round) -> None:
        try:
            rows = await (self._now if current.urgent else self._soon)(user)
            self._apply(user, rows)
        except StorageUnavailable as error:
            self._owed.add(user)
            current.error = error
        except Exception:
            # A bug in whoever takes the rows. It is this user's alone, and the next look tries again.
            _log.exception("rows_not_applied")
            self._owed.add(user)
            current.error = StorageUnavailable("none", "the rows could not be applied")
        else:
            self._owed.discard(user)
