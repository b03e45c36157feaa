"""The sources of one session: made equal to the stored rows, again and again.

`apply` is the only way in which stored truth gets in here. It says for each row what should run; builds
bring that about, each in its own time. A build is for one version of a row: when the row has moved on
meanwhile, up or down, what was built is thrown away. So the order in which builds end decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache, partial
from typing import TypeVar

import structlog
from anyio import Event

from protocol.feed import FeedItem, SourceError
from protocol.ids import SourceId, UserId
from server.engine.clock import expire_after
from server.engine.engine import FeedEngine
from server.engine.report import SavedSource
from server.engine.source import FeedSource, SourceFailure
from server.engine.tasks import TaskScope, finish_at_once, is_fatal
from server.session.building import Build, BuildKey, BuildQueue
from server.session.errors import SourceUnavailable
from server.session.parts import SessionParts
from server.session.saving import decode_saved, encode_saved
from server.session.slots import NEVER_TOLD, SourceSlot
from server.session.states import OFF, SourceView, StatusName
from server.sources.provider import AnyProvider
from server.sources.stored import StoredSource
from server.tracing import span
from storage.loading import UserRows
from storage.source_configs import SourceConfigRow

__all__ = ["SessionSources"]

SourceT = TypeVar("SourceT", bound=FeedSource)

_log = structlog.stdlib.get_logger(__name__)


class SessionSources:
    """Which sources run in one engine, and why the others don't."""

    __slots__ = (
        "_builds",
        "_changed",
        "_closed",
        "_engine",
        "_on_built",
        "_parts",
        "_remembered",
        "_rows",
        "_slots",
        "_told_gone",
        "_user",
    )

    def __init__(
        self,
        user: UserId,
        parts: SessionParts,
        engine: FeedEngine,
        tasks: TaskScope,
        on_built: Callable[[], None],
    ) -> None:
        """`on_built` is called when builds have ended, well or not."""
        self._user = user
        self._parts = parts
        self._engine = engine
        self._on_built = on_built
        self._slots: dict[SourceId, SourceSlot] = {}
        # What was last told of those whose row has gone since.
        self._told_gone: dict[SourceId, tuple[object, ...]] | None = None
        self._builds = BuildQueue(user, parts, tasks, self._on_builds)
        self._closed = False
        self._remembered = False
        # Kept while something is being built, which is given them when it is done.
        self._rows: UserRows | None = None
        self._changed: Event | None = None

    # What there is

    @property
    def building(self) -> tuple[str, ...]:
        """The sources that are being built and show nothing yet, in the fixed order."""
        if self._rows is None:
            return ()
        order = self._parts.providers.order
        waiting = [
            slot.source_id
            for slot in self._slots.values()
            # One that has failed is failing while it is tried again.
            if slot.build is not None and slot.running is None and slot.failed is None
        ]
        return tuple(sorted(waiting, key=order.index))

    def view(self, source_id: SourceId) -> SourceView:
        """What is known of a source; of one without a row that it is off."""
        slot = self._slots.get(source_id)
        if slot is None:
            return OFF
        status: StatusName = "off"
        error = blocked_by = last_ok_at = None
        if slot.enabled:
            engine = self._engine.status(source_id)
            status, error = engine.status.value, engine.error
            blocked_by, last_ok_at = engine.blocked_by, engine.last_ok_at
            if slot.running is None and slot.failed is None:
                status = "starting"
        return SourceView(
            enabled=slot.enabled,
            version=slot.version,
            config=slot.config,
            has_credentials=slot.has_credentials,
            status=status,
            error=error,
            blocked_by=blocked_by,
            last_ok_at=last_ok_at,
            source=self._engine.source(source_id) if slot.enabled else None,
        )

    def source(self, kind: type[SourceT]) -> SourceT:
        """The running source of that class. Raises SourceUnavailable."""
        source_id = SourceId(getattr(kind, "id", kind.__name__))
        found = self._engine.source(source_id)
        if isinstance(found, kind):
            return found
        raise SourceUnavailable(source_id, self.view(source_id).status)

    def dismiss_key(self, item: FeedItem) -> bytes | None:
        """What of an item counts as its content, in the eyes of its source; None while that is not there."""
        source_id = SourceId(item.source_id)
        source = self._engine.source(source_id)
        if source is None and source_id in self._slots:
            return None
        if source is not None:
            try:
                return source.dismiss_key(item)
            except BaseException as raised:  # foreign code: without its word, any of the item's data counts
                if is_fatal(raised):
                    raise
                _log.exception("source_dismiss_key_failed", source=item.source_id)
        return FeedSource.dismiss_key(_NOBODY, item)

    def remember(self) -> None:
        """What is known of the sources now is known to whoever asks for news from here on."""
        if self._remembered:
            return
        self._remembered = True
        self._told_gone = None
        for slot in self._slots.values():
            slot.told = self._sign(slot.source_id)

    def overlook(self) -> None:
        """Something may have changed of which nobody was told."""
        self._remembered = False

    def has_news(self, source_id: SourceId) -> bool:
        """Whether something is to be told of a source that was not so when it was last told of."""
        sign = self._sign(source_id)
        slot = self._slots.get(source_id)
        if slot is None:
            return sign != self._take_told(source_id)
        told, slot.told = slot.told, sign
        return sign != told

    def _take_told(self, source_id: SourceId) -> tuple[object, ...]:
        """What was last told of a source that had no row then, or has none now."""
        return NEVER_TOLD if self._told_gone is None else self._told_gone.pop(source_id, NEVER_TOLD)

    def _sign(self, source_id: SourceId) -> tuple[object, ...]:
        view = self.view(source_id)
        error = None if view.error is None else (view.error.code, view.error.message)
        return _sign(view.version, view.enabled, view.status, error, view.blocked_by, view.has_credentials)

    # What there should be

    def apply(self, rows: UserRows) -> None:
        """Makes the sources equal to the rows. Idempotent.

        Never waits: what cannot be built at once is built by tasks of the session.
        """
        self._rows = rows
        with self._engine.step():
            for source_id in [source_id for source_id in self._slots if source_id not in rows.configs]:
                self._drop(self._slots.pop(source_id))
            for provider in self._parts.providers:
                row = rows.configs.get(provider.source_id)
                if row is not None:
                    self._apply_row(provider, row, rows)
        self._rest()

    async def settled(self, source_id: SourceId, version: int, timeout_s: float) -> None:
        """Returns once that version of the row has been built, has failed to be, or is no longer wanted; at
        the latest after `timeout_s`."""
        with expire_after(self._parts.clock, timeout_s):
            while self._is_unsettled(source_id, version):
                await self._next_change()

    async def built(self, timeout_s: float) -> None:
        """Returns once nothing is being built; at the latest after `timeout_s`."""
        if self.is_building:
            with expire_after(self._parts.clock, timeout_s):
                while self.is_building:
                    await self._next_change()

    def unsaved(self) -> Iterator[tuple[SourceId, bytes]]:
        """The answers that are not stored yet, encoded; afterwards they count as stored."""
        for source_id, slot in self._slots.items():
            source = self._engine.source(source_id)
            if slot.running is None or (source is not None and _comes_back(source)):
                continue
            saved, before = self._engine.saved(source_id), slot.saved
            if saved is None:
                continue
            if before is None or before.items != saved.items or before.context != saved.context:
                slot.saved = saved
                yield source_id, encode_saved(saved, slot.running[0])

    def forget_saved(self) -> None:
        """What `unsaved` gave could not be stored."""
        for slot in self._slots.values():
            slot.saved = None

    def runs_latest(self, source_id: SourceId) -> bool | None:
        """Whether what runs was built from the present row and settings; None if the source is off."""
        slot = self._slots.get(source_id)
        if slot is None or not slot.enabled:
            return None
        return slot.running == (slot.version, self._parts.settings_version(source_id))

    def close(self) -> None:
        """Takes back every timer, and sets none any more. The builds are the session's tasks, and what they
        still bring is the engine's: both end with those."""
        self._closed = True
        for slot in self._slots.values():
            _cancel_retry(slot)

    def dissolve(self) -> None:
        """Lets go of whom it told. Called once, when nothing of the session runs any more."""
        self._builds.close()
        self._on_built = _nobody
        self._slots.clear()

    # One row

    def _apply_row(self, provider: AnyProvider, row: SourceConfigRow, rows: UserRows) -> None:
        slot = self._slots.get(row.source_id)
        if slot is None:
            slot = self._slots[provider.source_id] = SourceSlot(provider.source_id)
            slot.told = self._take_told(provider.source_id)
        slot.take(row)
        if not row.enabled:
            self._turn_off(slot)
            return
        key = _key(row.version, self._parts.settings_version(provider.source_id))
        if slot.running == key and slot.failed is None:
            self._supersede(slot)
        elif slot.build.key != key if slot.build else slot.failed != key or slot.due:
            self._begin(slot, provider, row, key)
        self._restore(slot.source_id, rows)

    def _drop(self, slot: SourceSlot) -> None:
        """Its row has gone."""
        self._turn_off(slot)
        self._told_gone = self._told_gone or {}
        self._told_gone[slot.source_id] = slot.told

    def _turn_off(self, slot: SourceSlot) -> None:
        self._supersede(slot)
        if slot.running is not None or slot.failed is not None:
            self._engine.remove(slot.source_id)
        slot.running = slot.failed = slot.failing_since = None
        slot.failures = 0

    def _begin(self, slot: SourceSlot, provider: AnyProvider, row: SourceConfigRow, key: BuildKey) -> None:
        self._supersede(slot)
        prepared = self._parts.prepared.take(self._user, provider.source_id, row.version)
        if prepared is not None:
            self._install(slot, key, prepared)
        elif provider.builds_at_once:
            self._build_at_once(slot, provider, row, key)
        else:
            self._build(slot, provider, row, key)

    def _build_at_once(
        self, slot: SourceSlot, provider: AnyProvider, row: SourceConfigRow, key: BuildKey
    ) -> None:
        try:
            source = finish_at_once(self._parts.builder.from_row(self._user, provider, row))
        except SourceFailure as failure:
            self._fail(slot, key, failure)
        else:
            self._install(slot, key, source)

    def _build(self, slot: SourceSlot, provider: AnyProvider, row: SourceConfigRow, key: BuildKey) -> None:
        slot.build = Build(provider, row, key)
        self._builds.add(slot.build)

    def _supersede(self, slot: SourceSlot) -> None:
        """Whatever was under way for this source is not wanted any more."""
        _cancel_retry(slot)
        slot.due = False
        if slot.build is not None:
            slot.build.drop()
            slot.build = None

    # What builds bring

    def _on_builds(self, builds: Sequence[Build]) -> None:
        with self._engine.step():
            for build in builds:
                slot = self._slots[build.provider.source_id]
                assert slot.build is build, "what is not wanted any more has been dropped"
                slot.build = None
                if build.source is not None:
                    self._install(slot, build.key, build.source)
                elif build.failure is not None:
                    self._fail(slot, build.key, build.failure)
        self._rest()
        self._on_built()

    def _install(self, slot: SourceSlot, key: BuildKey, source: FeedSource) -> None:
        known = slot.running is not None
        slot.running, slot.failed, slot.failing_since, slot.failures = key, None, None, 0
        if known:
            with span("swap", {"freya.source": slot.source_id}):
                self._engine.swap(slot.source_id, source)
        else:
            saved = None if _comes_back(source) else self._saved(slot)
            self._engine.add(source, saved=saved)
        if self._rows is not None:
            self._restore(slot.source_id, self._rows)

    def _saved(self, slot: SourceSlot) -> SavedSource | None:
        """What the source last showed, as stored: unless that was another one, set up differently."""
        if self._rows is None:
            return None
        state, row = self._rows.states.get(slot.source_id), self._rows.configs.get(slot.source_id)
        if state is None or state.saved is None or state.saved_at is None:
            return None
        if row is None:
            return None
        slot.saved = decode_saved(state.saved, state.saved_at, row.version)
        return slot.saved

    def _fail(self, slot: SourceSlot, key: BuildKey, failure: SourceFailure) -> None:
        options, clock = self._parts.options, self._parts.clock
        if self._closed:
            return
        slot.failed = key
        slot.failing_since = slot.failing_since or clock.now()
        backoff = min(options.retry_first_s * 2.0**slot.failures, options.retry_max_s)
        slot.failures = min(slot.failures + 1, 16)
        delay = max(backoff * self._parts.rng.uniform(0.5, 1.0), failure.retry_after_s or 0.0)
        slot.retry = clock.call_later(delay, partial(self._retry, slot))
        retry_at = clock.now() + timedelta(seconds=delay)
        error = SourceError(slot.source_id, failure.code, failure.message, slot.failing_since, retry_at)
        self._engine.fail(slot.source_id, error, saved=self._saved(slot) if slot.running is None else None)

    def _retry(self, slot: SourceSlot) -> None:
        # By way of the rows: what they say by now is what is to be built.
        slot.retry = None
        slot.due = True
        self._parts.reread(self._user)

    def _restore(self, source_id: SourceId, rows: UserRows) -> None:
        source = self._engine.source(source_id)
        if isinstance(source, StoredSource):
            try:
                source.restore(rows)
            except BaseException as raised:
                if is_fatal(raised):
                    raise
                # A source's bug is that source's failure: the others must still see their rows.
                _log.exception("source_restore_failed", source=source_id)

    # Who waits

    def _rest(self) -> None:
        if self._rows is not None and all(slot.build is None for slot in self._slots.values()):
            self._rows = None
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _is_unsettled(self, source_id: SourceId, version: int) -> bool:
        slot = self._slots.get(source_id)
        return slot is not None and slot.version <= version and slot.build is not None

    @property
    def is_building(self) -> bool:
        """Whether something that the rows ask for is being built."""
        return self._rows is not None

    async def _next_change(self) -> None:
        self._changed = self._changed or Event()
        await self._changed.wait()


_NOBODY = FeedSource()


# One tuple for all that a write has set up, and for whom the same was written first.
@lru_cache(maxsize=4096)
def _key(version: int, settings_version: int) -> BuildKey:
    return version, settings_version


# Most sources of most users are in one of a few states: those share one tuple.
@lru_cache(maxsize=4096)
def _sign(*parts: object) -> tuple[object, ...]:
    return parts


def _comes_back(source: FeedSource) -> bool:
    """Whether what it shows need not be stored: it comes from rows, or follows from what the source has."""
    return isinstance(source, StoredSource) or source.answers_at_once


def _cancel_retry(slot: SourceSlot) -> None:
    if slot.retry is not None:
        slot.retry.cancel()
        slot.retry = None


def _nobody() -> None:
    """There is nobody to be told any more."""
