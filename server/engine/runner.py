"""The calls to one source instance: at most one in flight, each with its timeout.

A runner is also the source's handle. Once it is closed, nothing the source does reaches the engine any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import Final, Protocol, TypeVar, cast
from uuid import uuid4

import structlog
from anyio import CancelScope, Event

from protocol.feed import ContextEntry, FeedItem
from protocol.ids import SourceId
from server.engine.clock import Clock, expire_after
from server.engine.context import Context
from server.engine.source import Answer, FeedSource, SourceFailure, Unreachable
from server.engine.tasks import TaskScope, Waited, finish_at_once, is_cancellation, is_fatal

__all__ = ["Phase", "RunnerHost", "SourceRunner", "as_failure"]

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)


class Phase(Enum):
    """Where a run is."""

    IDLE = "idle"
    CONTEXT = "context"
    ITEMS = "items"


class RunnerHost(Protocol):
    """What a runner needs of the engine. Every call is one synchronous step."""

    clock: Clock
    tasks: TaskScope

    def view(self) -> Context:
        """The present context."""
        ...

    def run_began(self, runner: SourceRunner, key: Hashable) -> None:
        """The source is being asked about this input."""
        ...

    def context_fetched(
        self, runner: SourceRunner, entries: Sequence[ContextEntry] | None, key: Hashable
    ) -> None:
        """The first half of a run has its answer; None: no news, or a newer push has it."""
        ...

    def run_answered(
        self, runner: SourceRunner, answer: Answer | Sequence[FeedItem] | None, key: Hashable
    ) -> None:
        """The whole run went well; the answer as for the context."""
        ...

    def run_failed(self, runner: SourceRunner, failure: SourceFailure) -> None:
        """The run ended without an answer."""
        ...

    def run_ended(self, runner: SourceRunner) -> None:
        """The source is free to be asked again."""
        ...

    def context_pushed(self, runner: SourceRunner, entries: Sequence[ContextEntry]) -> None:
        """The source reports by itself."""
        ...

    def items_pushed(self, runner: SourceRunner, answer: Answer | Sequence[FeedItem]) -> None:
        """The source reports by itself."""
        ...

    def refresh_requested(self, runner: SourceRunner) -> None:
        """The source wants to be asked."""
        ...


class SourceRunner:
    """See the module."""

    __slots__ = (
        "_context_overtaken",
        "_ended",
        "_host",
        "_items_overtaken",
        "_scope",
        "_wanted",
        "again",
        "closed",
        "name",
        "phase",
        "runs",
        "source",
    )

    def __init__(self, name: SourceId, source: FeedSource, host: RunnerHost) -> None:
        self.name = name
        self.source = source
        self._host = host
        self._scope: CancelScope | None = None
        self._ended: Event | None = None
        self.phase = Phase.IDLE
        self.runs = 0
        """How many runs have ended."""
        self.closed = False
        self.again = False
        """It was asked for once more while a run was under way."""
        # Whether the engine still wants the answer of the run under way.
        self._wanted = False
        # A push that came during a call is newer than that call's answer.
        self._context_overtaken = False
        self._items_overtaken = False

    # The handle

    def push_context(self, entries: Sequence[ContextEntry]) -> None:
        """See SourceHandle."""
        if not self.closed:
            self._context_overtaken = True
            self._host.context_pushed(self, entries)

    def push_items(self, items: Answer | Sequence[FeedItem]) -> None:
        """See SourceHandle."""
        if not self.closed:
            self._items_overtaken = True
            self._host.items_pushed(self, items)

    def request_refresh(self) -> None:
        """See SourceHandle."""
        if not self.closed:
            self._host.refresh_requested(self)

    def now(self) -> datetime:
        """See SourceHandle."""
        return self._host.clock.now()

    # The runs

    def start(self) -> None:
        """Begins a run, which must not be under way; of a source that answers at once, it also ends."""
        assert self.phase is Phase.IDLE, "at most one call of a source is in flight"
        self.phase = Phase.CONTEXT if self.source.fetches_context else Phase.ITEMS
        self.again = False
        self._wanted = True
        if self.source.answers_at_once:
            with suppress(Waited):  # whoever waits again and again has failed by then
                finish_at_once(self._run())
        else:
            self._scope = self._host.tasks.start(self._run, name=f"ask {self.source.id}")

    def stop(self) -> None:
        """Cancels the run under way, if there is one: its answer is not taken. It ends a little later."""
        self._wanted = False
        if self._scope is not None:
            self._scope.cancel()
        else:
            self._tell_ended()  # whoever waits for a run that was still to begin

    def close(self) -> None:
        """The source's reports count no more. Its `aclose` is called by `aclose`."""
        self.closed = True
        self.stop()

    def close_at_once(self) -> bool:
        """Instead of `aclose`: closes the source if there is nothing to wait for, neither a run under way nor
        anything that the source itself would let go of."""
        if self.phase is not Phase.IDLE or self.source.closes:
            return False
        self.source = _GONE
        return True

    async def aclose(self, timeout_s: float) -> None:
        """Closes the source. Called once, after `close`.

        Whether its last call or its `aclose` raises or hangs is not our trouble. Each may take `timeout_s`,
        and no cancellation cuts it shorter.
        """
        with CancelScope(shield=True):
            if self.phase is not Phase.IDLE:
                with expire_after(self._host.clock, timeout_s):
                    await self.ended.wait()
            await _close_source(self.source, self._host.clock, timeout_s)
        # The source has us as its handle: without this, only the collector could free the two.
        self.source = _GONE

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to ask of the source that takes a run."""
        return self.source.fetches_items or self.source.fetches_context

    @property
    def ended(self) -> Event:
        """Set when the run under way, or the next one, has ended."""
        self._ended = self._ended or Event()
        return self._ended

    def input_key(self, ctx: Context) -> Hashable:
        """What the source's answer depends on. Raises SourceFailure for whatever goes wrong in there."""
        try:
            return self.source.input_key(ctx)
        except BaseException as raised:
            raise as_failure(raised, self.name) from raised

    def reconsider(self, ctx: Context) -> Answer | None:
        """What time has changed. Raises SourceFailure."""
        try:
            return self.source.reconsider(ctx)
        except BaseException as raised:
            raise as_failure(raised, self.name) from raised

    async def _run(self) -> None:
        try:
            if self._wanted:  # else it was stopped before it began
                await self._ask()
        except BaseException as raised:  # the top of a foreign call: whatever it raises is its failure
            failure = as_failure(raised, self.name)
            if self._wanted:
                self._host.run_failed(self, failure)
        finally:
            self._scope = None
            self.phase = Phase.IDLE
            self.runs += 1
            self._tell_ended()
            if not self.closed:
                self._host.run_ended(self)

    async def _ask(self) -> None:
        source, host = self.source, self._host
        self._context_overtaken = False
        ctx = host.view()
        key = self.input_key(ctx)
        host.run_began(self, key)
        if source.fetches_context:
            entries = await self._call(source.fetch_context, ctx)
            self.phase = Phase.ITEMS
            if not self._wanted:
                return
            host.context_fetched(self, None if self._context_overtaken else entries, key)
        answer: Answer | Sequence[FeedItem] | None = None
        # A push from before this call is older than its answer.
        self._items_overtaken = False
        if source.fetches_items:
            ctx = host.view()
            key = self.input_key(ctx)
            answer = await self._call(source.fetch_items, ctx)
        if self._items_overtaken:
            answer, key = None, self.input_key(host.view())
        if self._wanted:
            host.run_answered(self, answer, key)

    def _tell_ended(self) -> None:
        if self._ended is not None:
            self._ended.set()
            self._ended = None

    async def _call(self, fn: Callable[[Context], Awaitable[T]], ctx: Context) -> T:
        if self.source.answers_at_once:
            return await fn(ctx)
        timeout_s = self.source.timeout_s
        with expire_after(self._host.clock, timeout_s):
            return await fn(ctx)
        raise Unreachable(f"No answer within {timeout_s:g} s")


_GONE: Final = FeedSource()
"""In the place of a source that has been closed."""


async def _close_source(source: FeedSource, clock: Clock, timeout_s: float) -> None:
    try:
        with expire_after(clock, timeout_s) as patience:
            await source.aclose()
        if patience.cancelled_caught:
            _log.warning("source_close_timed_out", source=source.id)
    except BaseException as raised:  # it must not stop the others from being closed
        if is_cancellation(raised) or is_fatal(raised):
            raise
        _log.warning("source_close_failed", source=source.id, exc_info=True)


def as_failure(raised: BaseException, source_id: str) -> SourceFailure:
    """What a source raised, as something that may be shown. Raises again what ends tasks or processes.

    Call it only while handling `raised`.
    """
    if isinstance(raised, SourceFailure):
        return raised
    if is_cancellation(raised) or is_fatal(raised):
        raise raised
    if isinstance(raised, BaseExceptionGroup):
        # A source that asks several upstreams at once: the first that can say what is wrong speaks for all.
        for one in _leaves(cast("BaseExceptionGroup[BaseException]", raised)):
            if isinstance(one, SourceFailure):
                return one
            if is_fatal(one):
                raise one
    error_id = uuid4().hex[:12]
    _log.warning("source_failed", source=source_id, error_id=error_id, exc_info=raised)
    return SourceFailure(f"The source failed unexpectedly (error {error_id})")


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", one))
        else:
            yield one
