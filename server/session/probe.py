"""Asking a source once, beside the one that runs: what it would show, before anything depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from protocol.feed import ContextEntry, FeedItem, SourceError
from protocol.ids import SourceId, UserId
from server.engine.clock import Clock, expire_after
from server.engine.context import Context
from server.engine.limits import FeedLimits
from server.engine.report import NO_ITEMS, admit_context, admit_items, answered_items
from server.engine.source import Answer, FeedSource, SourceFailure, Unreachable
from server.engine.tasks import is_cancellation, is_fatal
from server.session.builds import close_source
from server.session.configs import GivenCredentials, Plan, Stored
from server.sources.provider import AnyProvider
from server.sources.stored import StoredSource
from storage.loading import UserRows

if TYPE_CHECKING:
    from server.session.manager import SessionManager

__all__ = ["Probed", "Prober"]

_log = structlog.stdlib.get_logger(__name__)


class _Handle:
    """A `SourceHandle` that keeps what was pushed last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.items: Answer | Sequence[FeedItem] | None = None
        self.context: Sequence[ContextEntry] = ()

    def push_context(self, entries: Sequence[ContextEntry]) -> None:
        self.context = entries

    def push_items(self, items: Answer | Sequence[FeedItem]) -> None:
        self.items = items

    def request_refresh(self) -> None:
        """It is being asked already."""

    def now(self) -> datetime:
        return self._clock.now()


@dataclass(slots=True)
class Probed:
    """A source that has answered once, and what. It is closed in the end, unless somebody has `taken` it."""

    source: FeedSource
    items: tuple[FeedItem, ...]
    error: SourceError | None
    """What was wrong with a part of the answer."""
    clock: Clock
    taken: bool = False

    async def aclose(self) -> None:
        """Lets it go, cancelled or not."""
        if not self.taken:
            self.taken = True
            await close_source(self.source, self.clock)


class Prober:
    """Builds and asks sources that no engine holds."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def ask(self, user: UserId, provider: AnyProvider, plan: Plan, rows: UserRows) -> Probed:
        """The source of a planned row, after its first answer in the context that the user has now.

        Raises SourceFailure, also when build and answer together take longer than `probe_timeout_s`.
        """
        clock, options = self._manager.setup.clock, self._manager.setup.options
        source: FeedSource | None = None
        try:
            with expire_after(clock, options.probe_timeout_s):
                source = await self._build(user, provider, plan, rows)
                items, error = await self._answer(user, source, rows)
                return Probed(source, items, error, clock)
            raise Unreachable("it did not answer in time")
        except BaseException:
            if source is not None:
                await close_source(source, clock)
            raise

    async def _build(self, user: UserId, provider: AnyProvider, plan: Plan, rows: UserRows) -> FeedSource:
        builder = self._manager.builder
        row = rows.configs.get(provider.source_id)
        credentials = None
        if isinstance(plan.credentials, GivenCredentials):
            credentials = plan.credentials.model
        elif plan.credentials is Stored.KEEP and row is not None:
            credentials = builder.open_credentials(user, provider, row.credentials)
        return await builder.build(user, provider, plan.model, credentials)

    async def _answer(
        self, user: UserId, source: FeedSource, rows: UserRows
    ) -> tuple[tuple[FeedItem, ...], SourceError | None]:
        session = self._manager.live(user)
        known = () if session is None else session.history.current.state.context
        handle = _Handle(self._manager.setup.clock)
        try:
            return await _ask(source, handle, known, rows, self._manager.setup.limits)
        except SourceFailure:
            raise
        except BaseException as error:  # foreign code: whatever it raises is this source's failure alone
            if is_cancellation(error) or is_fatal(error):
                raise
            error_id = uuid4().hex
            _log.exception("source_probe_failed", source=source.id, error_id=error_id)
            raise SourceFailure(f"it failed (error {error_id[:8]})") from error


async def _ask(
    source: FeedSource,
    handle: _Handle,
    known: Sequence[ContextEntry],
    rows: UserRows,
    limits: FeedLimits,
) -> tuple[tuple[FeedItem, ...], SourceError | None]:
    source.attach(handle)
    if isinstance(source, StoredSource):
        source.restore(rows)
    others = [entry for entry in known if entry.key[0] != source.id]
    now = handle.now()
    if source.fetches_context:
        own = await source.fetch_context(Context.of([*others, *handle.context], now))
        handle.context = handle.context if own is None else own
    context, _ = admit_context(SourceId(source.id), (), handle.context, limits)
    view = Context.of([*others, *context], now)
    if source.fetches_items:
        fetched = await source.fetch_items(view)
        handle.items = handle.items if fetched is None else fetched
    elif source.reconsiders and handle.items is None:
        handle.items = source.reconsider(view)
    items, _ = answered_items(handle.items or ())
    admitted, flaw = admit_items(SourceId(source.id), NO_ITEMS, items, limits, now)
    error = None if flaw is None else SourceError(source.id, flaw.code, flaw.message, now)
    return admitted.items, error
