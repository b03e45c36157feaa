"""Who has a session in this process: made once, shared by all who ask, ended once.

Keeps the sessions, those in the making, and the idle ones in the order in which they are let go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from anyio import CapacityLimiter, Event
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from protocol.ids import UserId
from server.engine.tasks import TaskScope
from server.replication.bus import Bus
from server.session.creating import Creation, Creations, Load
from server.session.errors import (
    SessionError,
    SessionRemoved,
    SessionsClosed,
    SessionsFull,
    SessionUnavailable,
)
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


class SessionDirectory:
    """The sessions by user. Everything it starts runs in the task group it is given."""

    def __init__(
        self,
        *,
        group: TaskGroup,
        bus: Bus,
        parts: SessionParts,
        load: Load,
        ensure: Load,
        read: Callable[[UserId], Awaitable[None]],
        save: Callable[[UserSession], Awaitable[None]],
    ) -> None:
        """`load` reads the rows of users, `ensure` those of users who are to get their first ones; `read`
        reads those of a live session again, and applies them; `save` stores what a session shows.
        """
        self._group = group
        self._tasks = TaskScope(group)
        self._bus = bus
        self._parts = parts
        self._read = read
        self._save = save
        self._sessions: dict[UserId, UserSession] = {}
        self._creations = Creations(
            tasks=self._tasks, bus=bus, load=load, ensure=ensure, make=self._open, ended=self._unwatch
        )
        self._idle: dict[UserId, UserSession] = {}  # the longest idle first
        self._ending: dict[UserId, Event] = {}
        self._closing_at_once = CapacityLimiter(_CLOSING_AT_ONCE)
        self._closed = False
        self._evicted = 0
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
            found = self._live_or_begun(user)
            if isinstance(found, Creation):
                await found.wait()
                found = self._outcome(found)
            if not found.closed:
                return found

    def prepare(self, user: UserId, then: Callable[[UserSession | SessionError], None]) -> None:
        """See `SessionManager.prepare`."""
        try:
            found = self._live_or_begun(user)
        except SessionError as problem:
            then(problem)
            return
        if isinstance(found, Creation):
            found.then(lambda creation: then(self._outcome_or_problem(creation)))
        else:
            then(found)

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
        self._creations.take_back(user)
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
        self._creations.take_all_back()

    async def aclose(self) -> None:
        """Ends every session. Idempotent."""
        self.refuse()
        endings: list[Event] = []
        for session in self:
            if not session.closed:
                endings.append(self.end(session, "shutdown", save=False))
                if not len(endings) % _CLOSING_AT_ONCE:
                    await checkpoint()
        for ended in endings:
            await ended.wait()
        await self._tasks.aclose()

    def statistics(self) -> DirectoryStatistics:
        """What there is and what was done."""
        return DirectoryStatistics(
            len(self._sessions),
            len(self._idle),
            len(self._creations),
            self._creations.created,
            self._creations.failed,
            self._evicted,
            dict(self._limits),
        )

    # Making one

    def _live_or_begun(self, user: UserId) -> UserSession | Creation:
        """Raises SessionsClosed and SessionsFull."""
        if self._closed:
            raise SessionsClosed
        found = self._sessions.get(user) or self._creations.get(user)
        if found is None:
            self._make_room()
            found = self._creations.begin(user)
        return found

    def _outcome(self, creation: Creation) -> UserSession:
        if creation.removed:
            raise SessionsClosed if self._closed else SessionRemoved
        if creation.session is None:
            raise SessionUnavailable(creation.problem)
        return creation.session

    def _outcome_or_problem(self, creation: Creation) -> UserSession | SessionError:
        try:
            return self._outcome(creation)
        except SessionError as problem:
            return problem

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

    def _open(self, creation: Creation, rows: UserRows) -> Callable[[], Awaitable[None]] | None:
        user = creation.user
        session = self._sessions[user] = UserSession(user, self._parts, TaskScope(self._group))
        self.idle_changed(session)
        try:
            session.apply_rows(rows)
        except Exception:
            # A bug of ours or of a plugin: nobody may find half a session.
            self.end(session, "removed", save=False)
            raise
        if session.is_building or creation.wanted > session.seq:
            return partial(self._settle, creation, session)
        creation.session = session
        return None

    async def _settle(self, creation: Creation, session: UserSession) -> None:
        await session.built(self._parts.options.build_patience_s)
        if creation.wanted > session.seq:
            # Committed after our snapshot, announced before there was a session to hear it.
            try:
                await self._read(session.user)
            except StorageUnavailable:
                _log.warning("session_read_owed")
        creation.session = session

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
