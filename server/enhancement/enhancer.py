"""When the model is asked, and for whom: one Enhancer a process, one UserOverlay a session.

The overlay sees each revision go by, and after a little while asks if the gates are open. The answer is
stored like any write, so that it comes back to this session, and to every other replica's, as rows
(`restore`). A failure leaves the feed as it was.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import structlog
from anyio import CancelScope, CapacityLimiter, move_on_after
from anyio.abc import TaskGroup

from protocol.feed import FeedItem
from protocol.ids import ReplicaId, UserId
from server.engine.clock import Clock, Timer
from server.engine.context import Context
from server.engine.engine import Cause
from server.engine.tasks import TaskScope
from server.enhancement.completion import Completion, FailureKind, ModelFailure, ModelStatistics
from server.enhancement.fills import ENHANCEMENT_ID, KeptAnswers, Layer, merge, read_kept
from server.enhancement.gate import Breaker, Decision, Facts, SkipReason, decide
from server.enhancement.options import EnhancementOptions
from server.enhancement.prompt import Prompt, build_prompt
from server.enhancement.request import PassRequest, has_open_slots, request_for
from server.session.user_session import UserSession
from server.sources.services import UserWrites
from server.sources.user import user_settings
from storage import enhancements
from storage.database import Database, WriteTx
from storage.errors import StorageUnavailable
from storage.loading import UserRows

if TYPE_CHECKING:
    from server.enhancement.model import ChatModel

__all__ = ["NO_ENHANCEMENT", "Enhancer", "EnhancerStatistics", "Latency", "UserOverlay"]


_LOG_EVERY_S: Final = 60.0
_RELEASE_S: Final = 1.0
_LATENCY_BOUNDS_S: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Latency:
    """Passes by how long they took: `counts` up to each of `bounds` (s), the last one beyond; their sum."""

    bounds: tuple[float, ...] = _LATENCY_BOUNDS_S
    counts: tuple[int, ...] = (0,) * (len(_LATENCY_BOUNDS_S) + 1)
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class EnhancerStatistics:
    """Counts since the start."""

    model: ModelStatistics
    passes: int
    skips: Mapping[SkipReason, int]
    failures: Mapping[FailureKind, int]
    running: int
    latency: Latency
    breaker_open: bool


NO_ENHANCEMENT: Final = EnhancerStatistics(
    ModelStatistics(0, 0, 0, plain=False), 0, MappingProxyType({}), MappingProxyType({}), 0, Latency(), False
)
"""Of a server that has no model to ask."""


@dataclass(slots=True)
class _Counts:
    passes: int = 0
    running: int = 0
    skips: Counter[SkipReason] = field(default_factory=Counter[SkipReason])
    failures: Counter[FailureKind] = field(default_factory=Counter[FailureKind])
    latency: Latency = field(default_factory=Latency)


class Enhancer:
    """What all sessions' passes share: the model, the limit, the breaker, the way to write."""

    def __init__(
        self,
        model: ChatModel,
        *,
        database: Database,
        clock: Clock,
        group: TaskGroup,
        replica: ReplicaId,
        options: EnhancementOptions | None = None,
    ) -> None:
        self.options = options or EnhancementOptions()
        self.clock = clock
        self.group = group
        self.breaker = Breaker(self.options)
        self.counts = _Counts()
        self._model = model
        self._database = database
        self._replica = replica
        self._limit = CapacityLimiter(self.options.concurrency)
        self._writes: UserWrites | None = None
        self._logged_at = float("-inf")

    def bind(self, writes: UserWrites) -> None:
        """The session manager's way to write: it is made after this, since sessions have overlays."""
        self._writes = writes

    def overlay(self, session: UserSession) -> UserOverlay:
        """The `OverlayFactory` of the session manager."""
        return UserOverlay(self, session)

    def statistics(self) -> EnhancerStatistics:
        """What was asked and what came of it."""
        counts = self.counts
        return EnhancerStatistics(
            model=self._model.statistics(),
            passes=counts.passes,
            skips=dict(counts.skips),
            failures=dict(counts.failures),
            running=counts.running,
            latency=counts.latency,
            breaker_open=self.breaker.until > self.clock.monotonic(),
        )

    async def ask(
        self, user: UserId, request: PassRequest, prompter: Callable[[bool], Prompt]
    ) -> Completion | None:
        """The model's answer, if it is this replica's turn to ask; None if it is not. Raises ModelFailure.

        The turn is held afterwards: `store` or `release` it.
        """
        async with self._limit:
            turn = await enhancements.try_lease(
                self._database,
                user,
                self._replica,
                request.input_hash,
                self.options.lease_s,
                calls_per_hour=self.options.calls_per_hour,
            )
            if not turn:
                return None
            began = self.clock.monotonic()
            self.counts.running += 1
            try:
                return await self._model.ask(request, prompter)
            finally:
                self.counts.running -= 1
                self._measured(self.clock.monotonic() - began)

    async def store(self, user: UserId, input_hash: bytes, kept: KeptAnswers) -> None:
        """Stores an answer; it reaches the session through its rows. Raises StorageUnavailable."""
        assert self._writes is not None, "bind() comes first"

        async def write(tx: WriteTx) -> bool:
            return await enhancements.store(
                tx, user, self._replica, input_hash, kept.fills_json(), kept.synthetic_json()
            )

        await self._writes.write(user, write)

    async def release(self, user: UserId, request: PassRequest) -> None:
        """Gives the turn back, also when this is being cancelled; if it fails, the turn ends by itself."""
        with CancelScope(shield=True), move_on_after(_RELEASE_S), suppress(StorageUnavailable):
            await enhancements.release(self._database, user, self._replica, request.input_hash)

    def failed(self, failure: ModelFailure) -> None:
        """Counts, backs off, and says so at most once a minute."""
        now = self.clock.monotonic()
        self.counts.failures[failure.kind] += 1
        self.breaker.failed(now, failure.retry_after_s)
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            _log.warning("enhancement_failed", kind=failure.kind, failures_in_a_row=self.breaker.failures)

    def _measured(self, seconds: float) -> None:
        self.counts.passes += 1
        before = self.counts.latency
        place = bisect_left(before.bounds, seconds)
        counts = tuple([count + (index == place) for index, count in enumerate(before.counts)])
        self.counts.latency = Latency(before.bounds, counts, before.total + seconds)


class UserOverlay:
    """One session's `Overlay`: what the model said, laid over the items, and when to ask again."""

    __slots__ = (
        "_changed_at",
        "_context",
        "_enhancer",
        "_expiry",
        "_items",
        "_last_began",
        "_layer",
        "_not_before",
        "_running",
        "_session",
        "_stored",
        "_tasks",
        "_timer",
    )

    def __init__(self, enhancer: Enhancer, session: UserSession) -> None:
        self._enhancer = enhancer
        self._session = session
        self._layer = Layer()
        self._tasks = TaskScope(enhancer.group)
        self._items: tuple[FeedItem, ...] = ()
        self._context: Context | None = None
        self._stored: enhancements.EnhancementRow | None = None
        self._timer: Timer | None = None
        self._expiry: Timer | None = None
        self._running = False
        self._changed_at = 0.0
        self._last_began: float | None = None
        self._not_before = 0.0

    # The session's neighbour

    def fill(self, items: tuple[FeedItem, ...], context: Context) -> tuple[FeedItem, ...]:
        """See `Overlay`. A user who wants no written hints sees none, old ones included."""
        self._items = items
        self._context = context
        return items if _opted_out(context) else self._layer.lay(items, context.time)

    def restore(self, rows: UserRows) -> None:
        """See `Overlay`."""
        row = rows.enhancement
        if (
            row is None
            or row.input_hash is None
            or (self._stored and row.stored_at == self._stored.stored_at)
        ):
            return
        self._stored = row
        self._layer.replace(read_kept(row.input_hash, row.fills, row.synthetic))
        self._await_expiry()

    def revised(self, session: UserSession) -> None:
        """See `Overlay`. The cheap half of the gates; the hash is only taken when the time has come."""
        if self._timer is None and not self._running and session.listening and has_open_slots(self._items):
            self._changed_at = self._enhancer.clock.monotonic()
            self._again_in(self._enhancer.options.debounce_s)

    def listening(self, session: UserSession) -> None:
        """See `Overlay`."""
        self.revised(session)

    async def aclose(self) -> None:
        """See `Overlay`."""
        for timer in (self._timer, self._expiry):
            if timer is not None:
                timer.cancel()
        await self._tasks.aclose()

    # When to ask

    def _again_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._enhancer.clock.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._running or self._session.closed:
            return
        request = self._request()
        decision = self._decide(request)
        if decision.reason is not None:
            self._enhancer.counts.skips[decision.reason] += 1
        if decision.wait_s is None:
            return
        if decision.wait_s > 0:
            self._again_in(decision.wait_s)
        elif request is not None:
            self._running = True
            self._tasks.start(self._run, request, name="enhancement.pass")

    def _decide(self, request: PassRequest | None) -> Decision:
        enhancer = self._enhancer
        facts = Facts(
            listening=self._session.listening > 0,
            opted_out=_opted_out(self._context),
            input_hash=None if request is None else request.input_hash,
            answered_hash=self._layer.kept.input_hash,
            changed_at=self._changed_at,
            last_began=self._last_began,
            not_before=self._not_before,
        )
        return decide(facts, enhancer.breaker.until, enhancer.clock.monotonic(), enhancer.options)

    def _request(self) -> PassRequest | None:
        """The question as of now: over what is filled already, without what was made up."""
        filled = tuple([item for item in self._laid() if item.source_id != ENHANCEMENT_ID])
        return request_for(filled)

    def _laid(self) -> tuple[FeedItem, ...]:
        return self._layer.lay(self._items, self._enhancer.clock.now())

    # Asking

    async def _run(self, request: PassRequest) -> None:
        enhancer = self._enhancer
        self._last_began = enhancer.clock.monotonic()
        try:
            await self._pass(request)
        except ModelFailure as failure:
            enhancer.failed(failure)
            self._pause(enhancer.options.min_interval_s)
        except StorageUnavailable:
            self._pause(enhancer.options.min_interval_s)
        finally:
            self._running = False
        if not self._session.closed:
            self._changed_at = enhancer.clock.monotonic()
            self._again_in(enhancer.options.debounce_s)

    async def _pass(self, request: PassRequest) -> None:
        enhancer, user = self._enhancer, self._session.user
        stored = False
        turn = True
        try:
            completion = await enhancer.ask(user, request, self._prompter(request))
            if completion is None:
                turn = False
                enhancer.counts.skips["refused"] += 1
                self._pause(enhancer.options.lease_s)
                return
            enhancer.breaker.succeeded()
            present = self._request()
            if present is None or present.input_hash != request.input_hash:
                enhancer.counts.skips["superseded"] += 1
                return
            now = enhancer.clock.now()
            kept = merge(self._layer.kept, request, completion.answer, now, enhancer.options.synthetic_ttl_s)
            await enhancer.store(user, request.input_hash, kept)
            stored = True
        finally:
            if turn and not stored:
                await enhancer.release(user, request)

    def _prompter(self, request: PassRequest) -> Callable[[bool], Prompt]:
        assert self._context is not None, "a pass follows a revision"
        settings = user_settings(self._context)
        now = self._enhancer.clock.now()
        return lambda in_words: build_prompt(
            request, now, settings.zone, settings.locale, shape_in_words=in_words
        )

    def _pause(self, seconds: float) -> None:
        self._not_before = self._enhancer.clock.monotonic() + seconds

    # What ends

    def _await_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        now = self._enhancer.clock.now()
        end = self._layer.next_expiry(now)
        if end is not None:
            self._expiry = self._enhancer.clock.call_later((end - now).total_seconds(), self._expired)

    def _expired(self) -> None:
        self._expiry = None
        self._session.derive_now(Cause(None, "timer", 0.0))
        self._await_expiry()


def _opted_out(context: Context | None) -> bool:
    return context is not None and not user_settings(context).enhance
