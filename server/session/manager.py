"""All sessions of a process, kept equal to the stored rows.

Everything that is written for a user goes through `write`: commit, announce, apply what was read back. The
rest of this module is about the ways in which another replica's writes get here: a hint on the bus, a cursor
that names a later write, and the look, which compares all sessions with the store every few seconds and needs
nothing but the database. Who has a session at all is the directory's business.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final, TypeVar

import structlog
from anyio import CancelScope, Lock, create_task_group
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from protocol.ids import SourceId, UserId
from server.engine.tasks import TaskScope
from server.replication.bus import Hint
from server.session.builds import SourceBuilder
from server.session.chores import Chore, LookChore
from server.session.directory import SessionDirectory
from server.session.errors import NoSuchUser, SessionError, SessionUnavailable
from server.session.listeners import CloseReason
from server.session.operator_rows import OperatorRows
from server.session.parts import PreparedSources, SessionParts
from server.session.reading import RowReader
from server.session.rebuilding import Rebuild
from server.session.setup import ManagerStatistics, SessionSetup
from server.session.user_session import UserSession
from server.session.wall import WallClock
from server.tracing import span
from storage import action_results, inbox, source_state, users
from storage.database import WriteTx
from storage.errors import StorageUnavailable
from storage.loading import Loader, UserRows, ensure_users, load

__all__ = ["SessionManager"]

T = TypeVar("T")

# Sessions whose answers are encoded in one turn of the loop, and stored by one statement.
_SAVED_AT_ONCE: Final = 25
_TRIMMED_AT_ONCE: Final = 250

_log = structlog.stdlib.get_logger(__name__)


class SessionManager:
    """The way to a user's session, and the one way in which anything of a user is written."""

    def __init__(self, setup: SessionSetup, group: TaskGroup) -> None:
        """Use `open`. `group` is where everything runs."""
        self.setup = setup
        self.prepared = PreparedSources()
        self.operator = OperatorRows(
            database=setup.database, keys=setup.keys, registry=setup.registry, environment=setup.environment
        )
        self.builder = SourceBuilder(keys=setup.keys, services=setup.services(self))
        loader = Loader(setup.database, group)
        self._group = group
        self._tasks = TaskScope(group)
        self._reader = RowReader(
            tasks=self._tasks, now=self._load_now, soon=loader.load_one, apply=self._apply
        )
        self.parts = self._parts()
        """What every session here is made with."""
        self._directory = SessionDirectory(
            group=group,
            bus=setup.bus,
            parts=self.parts,
            load=self._load,
            ensure=self._ensure,
            read=self.reread,
            save=self._save_one,
        )
        self._look = LookChore(
            clock=setup.clock,
            rng=setup.rng,
            every_s=setup.options.look_every_s,
            alone_s=setup.options.look_alone_s,
            healthy=lambda: setup.bus.healthy,
            do=self.look,
        )
        self._wall = WallClock(setup.clock)
        self._rebuilds: dict[SourceId, Rebuild] = {}
        self._saving = Lock()
        self._reads = self._looks = self._looks_differing = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, setup: SessionSetup) -> AsyncGenerator[SessionManager]:
        """A running manager; at the end of the block every session is saved and closed.

        Reads the operator's rows first: raises StorageUnavailable if that cannot be done.
        """
        async with create_task_group() as group:
            manager = cls(setup, group)
            await manager.operator.read()
            await group.start(setup.bus.run, manager._on_hint, manager._on_bus_health)
            manager._start_chores()
            try:
                yield manager
            finally:
                # The group, not only this wait: sessions end in tasks of it, whoever is being cancelled
                # outside.
                group.cancel_scope.shield = True
                await manager.aclose()
                group.cancel_scope.cancel()

    # Who has a session

    async def get_or_create(self, user: UserId, *, existing: bool = False) -> UserSession:
        """The user's session: the live one, the one that is being made, or a new one.

        Attach to it before waiting for anything else: nobody holds it for you. With `existing`, raises
        NoSuchUser for a user of whom nothing is stored (then nothing is made). Raises SessionUnavailable when
        the store does not answer or there is no room, SessionRemoved when it was removed meanwhile,
        SessionsClosed at the end. Cancelled: the creation goes on for whoever else waits.
        """
        if existing and self._directory.get(user) is None:
            try:
                known = await users.exists(self.setup.database, user)
            except StorageUnavailable as problem:
                raise SessionUnavailable from problem
            if not known:
                raise NoSuchUser
        return await self._directory.get_or_create(user)

    def prepare(self, user: UserId, then: Callable[[UserSession | SessionError], None]) -> None:
        """The same without waiting: calls `then` with the session, or with why there is none; at once where
        that is known. It may have ended when `then` is told of it. `then` must not wait."""
        self._directory.prepare(user, then)

    def live(self, user: UserId) -> UserSession | None:
        """The user's session, if there is one here."""
        return self._directory.get(user)

    def sessions(self) -> tuple[UserSession, ...]:
        """All live sessions, as of now."""
        return tuple(self._directory)

    async def remove(self, user: UserId, reason: CloseReason = "removed") -> None:
        """Ends the user's session, also one that is being made: whoever waits for that gets SessionRemoved.
        One that is asked for after this call began is a new one. Returns when the old one has ended."""
        await self._directory.remove(user, reason)

    def shed(self, count: int) -> int:
        """Lets up to so many idle sessions go, the longest idle first; how many. For who needs the memory."""
        return self._directory.shed(count)

    async def bring_up_to(self, user: UserId, seq: int) -> None:
        """Returns once the live session has read its rows as of write `seq` or later; at once if it has.

        Raises SessionUnavailable if they cannot be read now. A seq that the store does not know (any more) is
        no reason to wait: what it has is the truth.
        """
        session = self._directory.get(user)
        if session is not None and session.seq < seq:
            try:
                await self._reader.read(user, urgent=True)
            except StorageUnavailable as problem:
                raise SessionUnavailable from problem

    async def reread(self, user: UserId) -> None:
        """Reads the rows of a live session again, together with others', and applies them. Raises
        StorageUnavailable; it is then done as soon as the store answers."""
        await self._reader.read(user)

    # Writes

    async def write(self, user: UserId, fn: Callable[[WriteTx], Awaitable[T]]) -> T:
        """`UserWrites`: a transaction of this user, then the others told and the session made equal to it.

        Returns when the live session (if any) contains the write. Raises what `fn` raises, and
        StorageUnavailable. Cancelled before COMMIT, nothing is written; from there on all of it happens.
        """
        with CancelScope() as scope:
            try:
                with span("transaction"):
                    async with self.setup.database.write(user) as tx:
                        result = await fn(tx)
                        # The COMMIT comes next: a cancellation must not part it from what follows.
                        scope.shield = True
            except StorageUnavailable as problem:
                if problem.outcome == "unknown":
                    self._reader.request(user)
                raise
            await self._committed(user, tx.seq)
            return result
        raise AssertionError("nobody cancels this scope")

    async def write_global(self, fn: Callable[[WriteTx], Awaitable[T]]) -> T:
        """The same for what belongs to nobody. Returns when this process holds the new rows; what follows for
        the sessions is under way then, see `rebuild_of`."""
        with CancelScope() as scope:
            async with self.setup.database.write_global() as tx:
                result = await fn(tx)
                scope.shield = True
            self.setup.bus.announce(Hint(None, tx.seq))
            try:
                await self.look_global()
            except StorageUnavailable:
                self._look.soon()
            return result
        raise AssertionError("nobody cancels this scope")

    async def _committed(self, user: UserId, seq: int) -> None:
        self.setup.bus.announce(Hint(user, seq))
        self._directory.note(user, seq)
        session = self._directory.get(user)
        if session is not None and session.seq != seq:
            try:
                await self._reader.read(user, urgent=True)
            except StorageUnavailable:
                # Written all the same; the session follows as soon as the store answers again.
                _log.warning("session_read_owed")

    # What others wrote

    def hint(self, user: UserId | None, seq: int) -> None:
        """Somebody says that the rows have reached `seq`: they are read if that is news. Never waits."""
        if user is None:
            if self.operator.seq != seq:
                self._look.soon()
            return
        self._directory.note(user, seq)
        session = self._directory.get(user)
        if session is not None and session.seq < seq:
            self._reader.request(user)

    async def look(self) -> int:
        """Compares every session, and the operator's rows, with the store; returns how many sessions
        differed, once they are equal. Raises StorageUnavailable."""
        self._looks += 1
        self._wall.look(self.sessions())
        await self.look_global()
        pairs = [(session.user, session.seq) for session in self._directory]
        found = await self.setup.database.differing(pairs) if pairs else []
        differing = {user for user, _ in found}
        self._looks_differing += len(differing)
        for done in [self._reader.request(user) for user in differing | self._reader.owed]:
            await done.wait()
        return len(differing)

    async def look_global(self) -> None:
        """Reads the operator's rows if they have changed. Sessions are rebuilt in the background where a
        provider has new settings. Raises StorageUnavailable."""
        for source_id in await self.operator.read():
            rebuild = self._rebuilds[source_id] = Rebuild(source_id)
            self._tasks.start(rebuild.run, iter(self.sessions()), self.reread, name="session.rebuild")

    def rebuild_of(self, source_id: SourceId) -> Rebuild | None:
        """The last time a provider's new settings were brought to the sessions: it may still be going on."""
        return self._rebuilds.get(source_id)

    def revoked(self, user: UserId, issued_at: datetime) -> bool:
        """Whether a token of this user, issued then, is to be refused."""
        return self.operator.revoked(user, issued_at)

    def statistics(self) -> ManagerStatistics:
        """What there is and what was done."""
        return ManagerStatistics(
            directory=self._directory.statistics(),
            reads=self._reads,
            looks=self._looks,
            looks_differing=self._looks_differing,
            storage_trouble=self._look.trouble or self.setup.database.statistics().out_of_room,
            bus_healthy=self.setup.bus.healthy,
        )

    # Inside

    def _parts(self) -> SessionParts:
        setup = self.setup
        return SessionParts(
            clock=setup.clock,
            providers=setup.registry,
            builder=self.builder,
            reread=self._request,
            idle=self._idle_changed,
            settings_version=self.operator.settings_version,
            options=setup.options,
            limits=setup.limits,
            processors=setup.processors,
            overlay=setup.overlay,
            prepared=self.prepared,
            rng=setup.rng,
            counts=setup.counts,
        )

    def _request(self, user: UserId) -> None:
        self._reader.request(user)

    def _idle_changed(self, session: UserSession) -> None:
        self._directory.idle_changed(session)

    async def _load(self, users: Sequence[UserId]) -> Mapping[UserId, UserRows]:
        return await load(self.setup.database, users)

    async def _ensure(self, users: Sequence[UserId]) -> Mapping[UserId, UserRows]:
        return await ensure_users(self.setup.database, users, self.setup.defaults)

    async def _load_now(self, user: UserId) -> UserRows:
        return (await self._load([user]))[user]

    def _apply(self, user: UserId, rows: UserRows) -> None:
        session = self._directory.get(user)
        if session is None:
            return
        self._reads += 1
        if rows.exists:
            with span("apply"):
                session.apply_rows(rows)
        else:
            self._directory.end(session, "gone", save=False)

    def _on_hint(self, hint: Hint) -> None:
        self.hint(hint.user, hint.seq)

    def _on_bus_health(self, healthy: bool) -> None:
        # Anything may have been missed; and while it is away, looks come more often from now on.
        self._look.soon()

    def _start_chores(self) -> None:
        setup = self.setup
        self._look.start(self._group, "session.look")
        for name, every_s, do in (
            ("session.save", setup.options.save_every_s, self.save),
            ("session.sweep", setup.options.sweep_every_s, self._sweep),
            ("session.prune", setup.options.prune_every_s, self._prune),
        ):
            Chore(clock=setup.clock, rng=setup.rng, every_s=every_s, do=do).start(self._group, name)

    async def save(self) -> None:
        """Stores what the sources of all sessions show, where that has changed since the last time."""
        async with self._saving:  # the last time, at the end, has what the one before could not finish
            dirty = [session for session in self._directory if session.dirty]
            for start in range(0, len(dirty), _SAVED_AT_ONCE):
                if not await self._save(dirty[start : start + _SAVED_AT_ONCE]):
                    break  # the others would wait for the same silence

    async def _save_one(self, session: UserSession) -> None:
        await self._save([session])

    async def _save(self, sessions: Sequence[UserSession]) -> bool:
        unsaved = {session.user: answers for session in sessions if (answers := session.unsaved())}
        saved = False
        try:
            saved = await source_state.save_many(self.setup.database, unsaved)
        finally:
            if not saved:  # also when cancelled on the way
                for session in sessions:
                    session.forget_saved()
        return saved

    async def _sweep(self) -> None:
        self._directory.evict_idle()
        before = self.setup.clock.monotonic() - self.setup.options.history_s
        for count, session in enumerate(self._directory, 1):
            session.trim(before)
            if not count % _TRIMMED_AT_ONCE:
                await checkpoint()

    async def _prune(self) -> None:
        # What is left over is hidden already, and there is a next time.
        with suppress(StorageUnavailable):
            await inbox.prune_expired(self.setup.database)
            await action_results.prune(self.setup.database)

    async def aclose(self) -> None:
        """Saves and ends every session; nothing is made from here on. `open` does it at its end."""
        self._directory.refuse()
        await self.save()
        await self._directory.aclose()
        await self._tasks.aclose()
