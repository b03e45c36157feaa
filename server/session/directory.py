"""Who has a session in this process: made once, shared by all who ask, ended once.

Keeps the sessions, those in the making, and the idle ones in the order in which they are let go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from anyio import CapacityLimiter, Event
from anyio.abc import TaskGroup

from protocol.ids import UserId
from server.engine.tasks import TaskScope
from server.replication.bus import Bus
from server.session.errors import SessionRemoved, SessionsClosed, SessionsFull, SessionUnavailable
from server.session.listeners import CloseReason
from server.session.parts import SessionParts
from server.session.user_session import UserSession
from storage.errors import StorageUnavailable
from storage.loading import UserRows

__all__ = ["DirectoryStatistics", "SessionDirectory"]

# A session this young may be on its way to whoever asked for it: it does not make room for another.
_YOUNG_S: Final = 1.0
# Sessions closing at once: each may have sources with something to say good-bye to.
_CLOSING_AT_ONCE: Final = 64

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DirectoryStatistics:
    """Sessions now, and what became of them since the start."""

    sessions: int
    idle: int
    creating: int
    created: int
    failed: int
    evicted: int
    limits: Mapping[str, int]
    """Sessions that ended early or were refused for want of room, by the name of the setting."""


class _Creation:
    """A session in the making, and everybody who waits for it."""

    __slots__ = ("done", "problem", "removed", "session", "wanted")

    def __init__(self) -> None:
        self.done = Event()
        self.session: UserSession | None = None
        self.problem = "it could not be made"
        self.removed = False
        self.wanted = 0  # the latest write that was heard of meanwhile


class SessionDirectory:
    """The sessions by user. Everything it starts runs in the task group it is given."""

    def __init__(
        self,
        *,
        group: TaskGroup,
        bus: Bus,
        parts: SessionParts,
        ensure: Callable[[UserId], Awaitable[UserRows]],
        read: Callable[[UserId], Awaitable[None]],
        save: Callable[[UserSession], Awaitable[None]],
    ) -> None:
        """`ensure` reads the rows of a user, who gets the first ones if need be; `read` reads those of a live
        session again and applies them; `save` stores what a session shows."""
        self._group = group
        self._tasks = TaskScope(group)
        self._bus = bus
        self._parts = parts
        self._ensure = ensure
        self._read = read
        self._save = save
        self._sessions: dict[UserId, UserSession] = {}
        self._creations: dict[UserId, _Creation] = {}
        self._idle: dict[UserId, UserSession] = {}  # the longest idle first
        self._ending: dict[UserId, Event] = {}
        self._closing_at_once = CapacityLimiter(_CLOSING_AT_ONCE)
        self._closed = False
        self._created = self._failed = self._evicted = 0
        self._limits = {"max_sessions": 0, "memory_high_mib": 0}

    def __iter__(self) -> Iterator[UserSession]:
        return iter(tuple(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, user: UserId) -> UserSession | None:
        """The live session, if there is one."""
        return self._sessions.get(user)

    async def get_or_create(self, user: UserId) -> UserSession:
        """See `SessionManager.get_or_create`."""
        while True:
            if self._closed:
                raise SessionsClosed
            live = self._sessions.get(user)
            if live is not None:
                return live
            creation = self._creations.get(user) or self._begin(user)
            await creation.done.wait()
            if creation.removed:
                raise SessionsClosed if self._closed else SessionRemoved
            if creation.session is None:
                raise SessionUnavailable(creation.problem)
            if not creation.session.closed:
                return creation.session

    def note(self, user: UserId, seq: int) -> None:
        """A write was heard of: a session that is being made must contain it before anybody gets it."""
        creation = self._creations.get(user)
        if creation is not None:
            creation.wanted = max(creation.wanted, seq)

    def idle_changed(self, session: UserSession) -> None:
        """A session's first listener has come or its last one gone."""
        self._idle.pop(session.user, None)
        if session.idle_since is not None and self._sessions.get(session.user) is session:
            self._idle[session.user] = session

    async def remove(self, user: UserId, reason: CloseReason) -> None:
        """See `SessionManager.remove`."""
        creation = self._creations.pop(user, None)
        if creation is not None:
            creation.removed = True
        session = self._sessions.get(user)
        ended = self._ending.get(user) if session is None else self.end(session, reason)
        if ended is not None:
            await ended.wait()

    def end(self, session: UserSession, reason: CloseReason, *, save: bool = True) -> Event:
        """Takes a session out and closes it at once, and ends it in the background; the event is set when it
        has ended."""
        ended = Event()
        if self._sessions.get(session.user) is session:
            del self._sessions[session.user]
            self._idle.pop(session.user, None)
            self._unwatch(session.user)
            self._ending[session.user] = ended
        session.close(reason)
        self._tasks.start(self._end, session, save, ended, name="session.end")
        return ended

    def evict_idle(self) -> int:
        """Ends the sessions that have been idle for too long; how many."""
        oldest = self._parts.clock.monotonic() - self._parts.options.idle_ttl_s
        count = 0
        for session in list(self._idle.values()):
            if session.idle_since is None or session.idle_since > oldest:
                break
            self.end(session, "removed")
            count += 1
        self._evicted += count
        return count

    def shed(self, count: int) -> int:
        """Ends up to so many idle sessions, the longest idle first, however short that is; how many."""
        young = self._parts.clock.monotonic() - _YOUNG_S
        longest = [
            session
            for session in list(self._idle.values())[:count]
            if session.idle_since is not None and session.idle_since <= young
        ]
        for session in longest:
            self.end(session, "removed")
        self._evicted += len(longest)
        self._limits["memory_high_mib"] += len(longest)
        return len(longest)

    def refuse(self) -> None:
        """From here on nobody gets a session; what is being made is given up."""
        self._closed = True
        for creation in self._creations.values():
            creation.removed = True
        self._creations.clear()

    async def aclose(self) -> None:
        """Ends every session. Idempotent."""
        self.refuse()
        for ended in [self.end(session, "shutdown", save=False) for session in self]:
            await ended.wait()
        await self._tasks.aclose()

    def statistics(self) -> DirectoryStatistics:
        """What there is and what was done."""
        return DirectoryStatistics(
            len(self._sessions),
            len(self._idle),
            len(self._creations),
            self._created,
            self._failed,
            self._evicted,
            dict(self._limits),
        )

    # Making one

    def _begin(self, user: UserId) -> _Creation:
        self._make_room()
        creation = self._creations[user] = _Creation()
        # Before the rows are read: what is announced after the read is heard.
        self._bus.watch(user)
        self._tasks.start(self._create, user, creation, name="session.create")
        return creation

    def _make_room(self) -> None:
        maximum = self._parts.options.max_sessions
        if len(self._sessions) + len(self._creations) < maximum:
            return
        self._limits["max_sessions"] += 1
        longest = next(iter(self._idle.values()), None)
        young = self._parts.clock.monotonic() - _YOUNG_S
        if longest is None or longest.idle_since is None or longest.idle_since > young:
            raise SessionsFull(maximum)
        self._evicted += 1
        self.end(longest, "removed")

    async def _create(self, user: UserId, creation: _Creation) -> None:
        try:
            await self._bus.wait_watching(user)
            rows = await self._ensure(user)
            if not creation.removed:
                creation.session = await self._open(user, rows, creation)
                self._created += 1
        except StorageUnavailable as problem:
            creation.problem = "the store does not answer"
            _log.warning("session_creation_failed", problem=problem.reason)
        finally:
            if self._creations.get(user) is creation:
                del self._creations[user]
            if creation.session is None:
                self._failed += not creation.removed
                self._unwatch(user)
            creation.done.set()

    async def _open(self, user: UserId, rows: UserRows, creation: _Creation) -> UserSession:
        session = self._sessions[user] = UserSession(user, self._parts, TaskScope(self._group))
        self.idle_changed(session)
        try:
            session.apply_rows(rows)
        except Exception:
            # A bug of ours or of a plugin: nobody may find half a session.
            self.end(session, "removed", save=False)
            raise
        await session.built(self._parts.options.build_patience_s)
        if creation.wanted > session.seq:
            # Committed after our snapshot, announced before there was a session to hear it.
            try:
                await self._read(user)
            except StorageUnavailable:
                _log.warning("session_read_owed")
        return session

    # Ending one

    async def _end(self, session: UserSession, save: bool, ended: Event) -> None:
        try:
            async with self._closing_at_once:
                if save and session.dirty:
                    await self._save(session)
                await session.aclose()
        finally:
            if self._ending.get(session.user) is ended:
                del self._ending[session.user]
            ended.set()

    def _unwatch(self, user: UserId) -> None:
        if user not in self._sessions and user not in self._creations:
            self._bus.unwatch(user)
