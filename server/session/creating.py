"""Sessions in the making.

Users who are asked for within a few milliseconds are read together, by one task for all of them; while their
rows are read and their sessions made, those who come next gather. Whoever waits for a session is called when
it is there, so that a storm of users coming back costs no task and no timer for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias
from uuid import uuid4

import structlog
from anyio import CapacityLimiter, Event, move_on_after
from anyio.lowlevel import checkpoint

from protocol.ids import UserId
from server.engine.tasks import TaskScope
from server.replication.bus import Bus
from server.session.user_session import UserSession
from server.tracing import apart
from storage.errors import StorageUnavailable
from storage.loading import UserRows

__all__ = ["Creation", "Creations", "Load"]

_GATHER_S: Final = 0.005
# Users of one read: their rows are taken apart in one turn of the loop.
_READ_AT_ONCE: Final = 100
# Reads under way: one, while the sessions of another are made.
_READS: Final = 2
# Sessions made in one turn of the loop, about half a millisecond each.
_MADE_AT_ONCE: Final = 8

Load: TypeAlias = Callable[[Sequence[UserId]], Awaitable[Mapping[UserId, UserRows]]]
_Make: TypeAlias = Callable[["Creation", UserRows], "Callable[[], Awaitable[None]] | None"]

_log = structlog.stdlib.get_logger(__name__)


class Creation:
    """A session in the making, and everybody who waits for it."""

    __slots__ = ("_done", "_then", "over", "problem", "removed", "session", "user", "wanted")

    def __init__(self, user: UserId) -> None:
        self.user = user
        self.session: UserSession | None = None
        self.problem = "it could not be made"
        self.removed = False
        self.wanted = 0
        """The latest write that was heard of. A session that lacks it reads its rows again before it is given
        to anybody."""
        self.over = False
        self._done: Event | None = None
        self._then: list[Callable[[Creation], None]] = []

    async def wait(self) -> None:
        """Returns when it is over, well or not."""
        if not self.over:
            self._done = self._done or Event()
            await self._done.wait()

    def then(self, fn: Callable[[Creation], None]) -> None:
        """Calls `fn` when it is over, which it is not yet. It must not wait; what it raises is logged."""
        self._then.append(fn)

    def end(self) -> None:
        """It is over: who waits is told."""
        self.over = True
        waiting, self._then = self._then, []
        for fn in waiting:
            try:
                fn(self)
            except Exception:
                _log.exception("session_waiter_failed")
        if self._done is not None:
            self._done.set()


class Creations:
    """All of them. What it runs are tasks of the scope it is given."""

    def __init__(
        self,
        *,
        tasks: TaskScope,
        bus: Bus,
        load: Load,
        ensure: Load,
        make: _Make,
        ended: Callable[[UserId], None],
    ) -> None:
        """`load` reads the rows of users, `ensure` those of users who are to be given their first ones.

        `make` gives a creation its session, or returns what there is to be waited for until then. `ended` is
        called with every user for whom none is under way any more.
        """
        self.created = self.failed = 0
        """How many have ended well, and how many have not (but for those that were taken back)."""
        self._tasks = tasks
        self._bus = bus
        self._load = load
        self._ensure = ensure
        self._make = make
        self._ended = ended
        self._reads = CapacityLimiter(_READS)
        self._by_user: dict[UserId, Creation] = {}
        self._gathering: _Batch | None = None
        self._queued: dict[_Batch, None] = {}

    def __len__(self) -> int:
        return len(self._by_user)

    def __contains__(self, user: UserId) -> bool:
        return user in self._by_user

    def get(self, user: UserId) -> Creation | None:
        """The one that is under way for this user."""
        return self._by_user.get(user)

    def begin(self, user: UserId) -> Creation:
        """A new one, for a user for whom none is under way."""
        creation = self._by_user[user] = Creation(user)
        # Before the rows are read: what is announced after the read is heard.
        self._bus.watch(user)
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch()
            self._queued[batch] = None
            with apart():  # it is the work of many
                self._tasks.start(self._serve, batch, name="session.create")
        batch.creations.append(creation)
        if len(batch.creations) >= _READ_AT_ONCE:
            self._close(batch)
        return creation

    def take_back(self, user: UserId) -> None:
        """Who waits for this user's gets none; who asks from here on gets another."""
        creation = self._by_user.pop(user, None)
        if creation is not None:
            creation.removed = True

    def take_all_back(self) -> None:
        """The same for everybody's."""
        for user in tuple(self._by_user):
            self.take_back(user)

    def _close(self, batch: _Batch) -> None:
        """Whoever comes from now on is not in it: it may have been asked already."""
        batch.closed.set()
        if self._gathering is batch:
            self._gathering = None

    async def _serve(self, batch: _Batch) -> None:
        try:
            with move_on_after(_GATHER_S):
                await batch.closed.wait()
            async with self._reads:
                del self._queued[batch]
                self._close(batch)
                if not batch.hopeless:
                    await self._make_all(batch)
        except StorageUnavailable as problem:
            _log.warning("session_creation_failed", problem=problem.reason)
            # Those who waited for their turn meanwhile would wait as long again, one batch after another.
            # Only a read that was tried says so: else one refusal would be the reason of the next, for ever.
            for one in (batch, *self._queued):
                one.hopeless = True
                self._close(one)
        finally:
            self._queued.pop(batch, None)
            self._close(batch)
            if batch.hopeless:
                for creation in (*batch.creations, *batch.new):
                    creation.problem = "the store does not answer"
            for left in (batch.made, batch.creations, batch.new):
                self._end_all(left)

    async def _make_all(self, batch: _Batch) -> None:
        users = [creation.user for creation in batch.creations]
        await self._bus.wait_watching(users)
        rows = await self._load(users)
        # Who has been here before does not wait for what is written for the others.
        known = [creation for creation in batch.creations if rows[creation.user].defaults_given]
        batch.new.extend(one for one in batch.creations if not rows[one.user].defaults_given)
        batch.creations = deque(known)
        await self._make_each(batch, rows)
        if batch.new:
            rows = await self._ensure([creation.user for creation in batch.new])
            batch.creations, batch.new = batch.new, deque()
            await self._make_each(batch, rows)

    async def _make_each(self, batch: _Batch, rows: Mapping[UserId, UserRows]) -> None:
        while batch.creations:
            while batch.creations and len(batch.made) < _MADE_AT_ONCE:
                creation = batch.creations[0]
                if self._make_one(creation, rows[creation.user]):
                    batch.made.append(creation)
                batch.creations.popleft()
            # Everybody else's turn. And sources that answer as soon as they are asked have done so then:
            # what they say is in the first state that is seen.
            await checkpoint()
            self._end_all(batch.made)

    def _make_one(self, creation: Creation, rows: UserRows) -> bool:
        """Whether that is all."""
        if creation.removed:
            return True
        try:
            rest = self._make(creation, rows)
        except Exception:  # one user's rows must not keep the others from their sessions
            _log.exception("session_creation_failed", error_id=uuid4().hex)
            return True
        if rest is not None:
            self._tasks.start(self._wait_for, creation, rest, name="session.create")
        return rest is None

    async def _wait_for(self, creation: Creation, rest: Callable[[], Awaitable[None]]) -> None:
        try:
            await rest()
            await checkpoint()  # as above
        finally:
            self._end(creation)

    def _end_all(self, creations: deque[Creation]) -> None:
        while creations:
            self._end(creations.popleft())

    def _end(self, creation: Creation) -> None:
        if self._by_user.get(creation.user) is creation:
            del self._by_user[creation.user]
        if creation.session is not None:
            self.created += 1
        else:
            self.failed += not creation.removed
        self._ended(creation.user)
        creation.end()


class _Batch:
    """Those whose rows one read brings, and of them those who have their session and are still to be told."""

    __slots__ = ("closed", "creations", "hopeless", "made", "new")

    def __init__(self) -> None:
        self.creations: deque[Creation] = deque()
        self.made: deque[Creation] = deque()
        self.new: deque[Creation] = deque()
        """Those who are to be given their first rows."""
        self.hopeless = False
        """The store has failed this one, or others while it waited for its turn."""
        self.closed = Event()
