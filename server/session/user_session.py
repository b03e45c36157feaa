"""One user's living state: the engine with the user's sources, and the revisions of the feed they make.

Everything of a user is reached through this object, and one call ends it. Feed changes pass through in one
direction: engine -> `_on_change` -> history -> listeners. Stored truth enters through `apply_rows` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import urandom
from typing import Final, TypeVar

import structlog
from anyio import Event

from protocol.feed import FeedItem, FeedState
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.clock import Timer, expire_after
from server.engine.context import Context
from server.engine.engine import FeedEngine
from server.engine.source import FeedSource
from server.engine.state import Cause
from server.engine.tasks import TaskScope
from server.session.dismissals import Dismissals, dismissal_of
from server.session.errors import SessionRemoved
from server.session.history import FeedHistory, Revision
from server.session.listeners import CloseReason, FeedListener, Listeners
from server.session.parts import Overlay, SessionParts
from server.session.sources import SessionSources
from server.session.states import SourceView, source_state
from storage.dismissals import DismissalRow
from storage.loading import UserRows

__all__ = ["UserSession"]

SourceT = TypeVar("SourceT", bound=FeedSource)

_EPOCH_BYTES: Final = 8
_BEGIN: Final = Cause(None, "fetch")
_SWAP: Final = Cause(None, "swap")

_log = structlog.stdlib.get_logger(__name__)


class UserSession:
    """The session of one user. Made by the `SessionManager`, which gives it its rows.

    All of it belongs to the event loop's thread. Nothing but what is marked `async` waits.
    """

    __slots__ = (
        "_applied",
        "_applying",
        "_dismissals",
        "_dismissals_end",
        "_history",
        "_listeners",
        "_listening",
        "_parts",
        "_ready",
        "_sources",
        "_stale",
        "_tasks",
        "closed",
        "dirty",
        "engine",
        "epoch",
        "idle_since",
        "overlay",
        "seq",
        "user",
    )

    def __init__(self, user: UserId, parts: SessionParts, tasks: TaskScope) -> None:
        self.user = user
        self.seq = 0
        """The user's write that the session contains."""
        self.epoch = urandom(_EPOCH_BYTES)
        self.closed = False
        self.dirty = False
        """Whether sources may have answers that are not stored yet."""
        self.idle_since: float | None = parts.clock.monotonic()
        """Since when (monotonic) nobody is attached; None while somebody is."""
        self._parts = parts
        self._tasks = tasks
        self._applying = False
        self._applied = _SWAP
        # The first change since the last revision, while nobody is there to be told.
        self._stale: Revision | None = None
        self._listeners = Listeners()
        self._listening = 0
        self._ready: Event | None = None
        self._dismissals = Dismissals()
        self._dismissals_end: Timer | None = None
        self.engine = FeedEngine(
            clock=parts.clock,
            tasks=tasks,
            processors=parts.processors,
            finish=self._finish,
            on_change=self._on_change,
            on_status=self._check_source,
            limits=parts.limits,
            order=parts.providers.order,
            rng=parts.rng,
            counts=parts.counts,
        )
        self._sources = SessionSources(user, parts, self.engine, tasks, self._on_built)
        self.overlay: Overlay | None = None if parts.overlay is None else parts.overlay(self)
        self._history = FeedHistory(
            self._revision(1, FeedState.EMPTY, _BEGIN),
            max_count=parts.options.history_revisions,
            max_bytes=parts.options.history_bytes,
        )

    # Who follows it

    def attach(self, listener: FeedListener) -> None:
        """Adds a listener, which is told of everything from here on; again is the same as once.

        What the feed is now is `history.current`: reading it and attaching is one step, since neither waits.
        Raises SessionRemoved if the session has ended: get another one.
        """
        if self.closed:
            raise SessionRemoved
        if not self._listeners:
            self._sources.remember()
        self._listeners.add(listener)
        if self.idle_since is not None:
            self.idle_since = None
            self._parts.idle(self)

    def detach(self, listener: FeedListener) -> None:
        """Takes a listener out. When the last one has gone, the session begins to be idle."""
        self._listeners.discard(listener)
        if not self._listeners and self.idle_since is None and not self.closed:
            self.idle_since = self._parts.clock.monotonic()
            self._parts.idle(self)

    @property
    def attached(self) -> int:
        """How many listeners there are."""
        return len(self._listeners)

    def listen(self) -> None:
        """One more listener is in the foreground. Sources are refreshed while there is any."""
        self._listening += 1
        if self._listening == 1:
            self._set_listening(True)

    def unlisten(self) -> None:
        """One less is. Pair each `listen` with one."""
        assert self._listening, "more unlisten() than listen()"
        self._listening -= 1
        if not self._listening:
            self._set_listening(False)

    @property
    def listening(self) -> int:
        """How many listeners are in the foreground."""
        return self._listening

    # What it knows

    @property
    def history(self) -> FeedHistory:
        """The feed: what it is now, and the last revisions before."""
        if self._stale is not None:
            self._revise(self._stale)
        return self._history

    def source(self, kind: type[SourceT]) -> SourceT:
        """The running source of that class. Raises SourceUnavailable, which says what it does instead."""
        return self._sources.source(kind)

    def source_view(self, source_id: SourceId) -> SourceView:
        """What is known of one source; of one that has no row that it is off."""
        return self._sources.view(source_id)

    def source_state(self, source_id: SourceId, *, schemas: bool = False) -> dict[str, JsonValue]:
        """The wire's SourceState of a registered source. Raises KeyError for any other."""
        provider = self._parts.providers.get(source_id)
        if provider is None:
            raise KeyError(source_id)
        return source_state(provider, self._sources.view(source_id), schemas=schemas)

    def source_states(self, *, schemas: bool = False) -> list[dict[str, JsonValue]]:
        """The SourceState of every registered source, in the fixed order."""
        return [
            source_state(provider, self._sources.view(provider.source_id), schemas=schemas)
            for provider in self._parts.providers
        ]

    def dismissal(self, item_id: str) -> DismissalRow | None:
        """The row that would send that item away; None if the feed does not show it."""
        for item in self.history.current.state.items:
            if item.id == item_id:
                return dismissal_of(item, self._sources.dismiss_key, self._parts.clock.now())
        return None

    async def settled(self, source_id: SourceId, version: int, timeout_s: float | None = None) -> None:
        """Returns once what that version of a row asks for is running, has failed, or has been overtaken by a
        later version; at the latest after `timeout_s`. Cancelling it changes nothing."""
        patience = self._parts.options.settle_s if timeout_s is None else timeout_s
        await self._sources.settled(source_id, version, patience)

    async def built(self, timeout_s: float) -> None:
        """Returns once no source is being built any more; at the latest after `timeout_s`."""
        await self._sources.built(timeout_s)

    async def answered(self, timeout_s: float) -> None:
        """Returns once no source is `pending`; at the latest after `timeout_s`."""
        with expire_after(self._parts.clock, timeout_s):
            while self.history.current.state.pending and not self.closed:
                self._ready = self._ready or Event()
                await self._ready.wait()

    @property
    def is_building(self) -> bool:
        """Whether `built` would wait."""
        return self._sources.is_building

    @property
    def is_behind(self) -> bool:
        """Whether the feed still shows something from before the rows that `seq` names: a source is being
        built from them, or has not answered yet since it was."""
        return self._sources.is_building or self.engine.is_inheriting

    async def caught_up(self, timeout_s: float) -> None:
        """Returns once it `is_behind` no more; at the latest after `timeout_s`."""
        with expire_after(self._parts.clock, timeout_s):
            while self.is_behind and not self.closed:
                self._ready = self._ready or Event()
                await self._ready.wait()

    async def refresh(self) -> None:
        """Asks every source again; returns when each has answered, failed, or run out of time."""
        await self.engine.refresh()

    def unsaved(self) -> Mapping[SourceId, bytes]:
        """The answers that are not stored yet; afterwards they count as stored."""
        self.dirty = False
        return dict(self._sources.unsaved())

    def forget_saved(self) -> None:
        """What was taken by `unsaved` could not be stored."""
        self.dirty = True
        self._sources.forget_saved()

    def runs_latest(self, source_id: SourceId) -> bool | None:
        """Whether what runs of a source was built from its row and its provider's settings as they are now;
        None if it is off."""
        return self._sources.runs_latest(source_id)

    # What changes it

    def apply_rows(self, rows: UserRows) -> None:
        """Makes the session equal to what is stored, whatever it was before. Never waits; idempotent.

        The manager calls it with reads in the order in which they were begun, so that the last one is the
        truth, also where it is older than what the session knew (a database that lost its last writes).
        """
        if self.closed:
            return
        self.seq = rows.seq
        self._applying = True
        self._applied = _SWAP
        self._dismissals.forget()
        try:
            self._sources.apply(rows)
            hidden = self._dismissals.replace(rows.dismissals)
            if self.overlay is not None:
                self.overlay.restore(rows)
        finally:
            self._applying = False
        if hidden or self.overlay is not None:
            self.engine.derive_now(Cause(None, "dismiss" if hidden else "enhance"))
        self._on_change(self._applied)
        self._await_dismissals_end()
        self._check_sources()

    def derive_now(self, cause: Cause) -> None:
        """The overlay says something else than before: derive the feed anew."""
        if not self.closed:
            self.engine.derive_now(cause)

    def trim(self, before_mono: float) -> None:
        """Lets go revisions that nobody is coming back for."""
        self._history.trim(before_mono)

    def close(self, reason: CloseReason) -> None:
        """Ends it as far as anybody can see: the listeners are told, nothing is published any more. Its
        sources still run, and what they show can be saved, until `aclose`. Idempotent."""
        if self.closed:
            return
        self.closed = True
        for listener in self._listeners.clear():
            try:
                listener.on_closed(self, reason)
            except Exception:
                _log.exception("feed_listener_failed", call="on_closed")
        self._wake_ready()
        self._sources.close()
        if self._dismissals_end is not None:
            self._dismissals_end.cancel()

    async def aclose(self) -> None:
        """Ends what `close` left: no timer, task or call of it remains. Idempotent.

        Cancelled, it ends all the same, but sources may still be closing.
        """
        self.close("removed")
        # The engine first: its sources are closed by tasks of this session.
        await self.engine.aclose()
        await self._tasks.aclose()
        if self.overlay is not None:
            await self.overlay.aclose()
            self.overlay = None
        self._sources.dissolve()

    # The corridor

    def _finish(self, items: tuple[FeedItem, ...], context: Context) -> tuple[FeedItem, ...]:
        """The engine's last step before limits and groups: what is laid over, then what was sent away."""
        if self.overlay is not None:
            items = self.overlay.fill(items, context)
        if not self._dismissals:
            return items
        return self._dismissals.apply(items, self._sources.dismiss_key, context.time)

    def _on_change(self, cause: Cause) -> None:
        """The engine's state has changed. While nobody is there to be told, one revision will do for all."""
        if self.closed:
            return
        if self._applying:
            # One revision for all that the rows bring, under the name of the last of it.
            self._applied = cause
            return
        self.dirty = True
        stale = self._stale
        if stale is None:
            # Numbered and given its state when it is made; the first change says since when it was due.
            stale = self._stale = self._revision(0, FeedState.EMPTY, cause)
        if self._listeners or self._ready is not None:
            self._revise(stale)

    def _revise(self, revision: Revision) -> None:
        """The engine's state as the next revision, if it says anything new."""
        self._stale = None
        items, groups, errors, pending, context = self.engine.state
        building = self._sources.building
        if building:
            pending = building + pending
        state = FeedState(items, groups, errors, pending, context)
        before = self._history.current
        if pending == before.state.pending and state.digest == before.state.digest:
            return
        revision.number = before.number + 1
        revision.state = state
        revision.seq = self.seq
        self._history.append(revision)
        if not pending:
            self._wake_ready()
        self._listeners.revision(self)
        if self.overlay is not None:
            self.overlay.revised(self)

    def _revision(self, number: int, state: FeedState, cause: Cause) -> Revision:
        return Revision(
            feed=self.user,
            epoch=self.epoch,
            number=number,
            seq=self.seq,
            state=state,
            at=self._parts.clock.now(),
            mono=self._parts.clock.monotonic(),
            cause=cause,
        )

    def _on_built(self) -> None:
        self._dismissals.forget()
        self._on_change(_SWAP)
        self._check_sources()
        self._wake_ready()

    def _check_sources(self) -> None:
        if self._listeners:
            for provider in self._parts.providers:
                self._check_source(provider.source_id)
        else:
            self._sources.overlook()

    def _check_source(self, source_id: SourceId) -> None:
        """Tells of a source what was not so when it was last told of."""
        self._wake_ready()
        if not self._listeners:
            self._sources.overlook()
        elif not self._applying and not self.closed and self._sources.has_news(source_id):
            self._listeners.source_changed(self, self.source_state(source_id))

    def _set_listening(self, listening: bool) -> None:
        self.engine.set_listening(listening)
        if self.overlay is not None:
            self.overlay.listening(self)

    def _await_dismissals_end(self) -> None:
        """What is hidden for a time comes back when it is over."""
        if self._dismissals_end is not None:
            self._dismissals_end.cancel()
            self._dismissals_end = None
        now = self._parts.clock.now()
        end = self._dismissals.next_end(now)
        if end is not None:
            delay = (end - now).total_seconds()
            self._dismissals_end = self._parts.clock.call_later(delay, self._end_dismissals)

    def _end_dismissals(self) -> None:
        self._dismissals_end = None
        if self.closed:
            return
        self.derive_now(Cause(None, "timer"))
        self._await_dismissals_end()

    def _wake_ready(self) -> None:
        if self._ready is not None:
            self._ready.set()
            self._ready = None
