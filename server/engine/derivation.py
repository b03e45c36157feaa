"""Runs the post-processors over the list; who fails is left out. What they want is applied by `ranking`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from inspect import isawaitable
from typing import NamedTuple

from protocol.feed import FeedItem, Group
from server.engine.clock import Clock, expire_after
from server.engine.context import Context
from server.engine.processors import PostProcessor, Processed
from server.engine.ranking import Ranking
from server.engine.tasks import TaskScope, is_cancellation, is_fatal

__all__ = ["Failed", "Ranked", "derive"]


class Failed(NamedTuple):
    """A processor that was left out."""

    name: str
    message: str
    """Safe to show."""
    raised: BaseException


class Ranked(NamedTuple):
    """The list as the processors left it."""

    items: tuple[FeedItem, ...]
    groups: tuple[Group, ...] = ()
    failures: tuple[Failed, ...] = ()
    next_change_at: datetime | None = None
    added_bytes: int = 0
    """The size of what they added, encoded."""


def derive(
    items: tuple[FeedItem, ...],
    ctx: Context,
    processors: Sequence[PostProcessor],
    *,
    clock: Clock,
    tasks: TaskScope,
    timeout_s: float,
    then: Callable[[Ranked], None],
) -> None:
    """Calls `then` with the result: before this returns, if no processor makes us wait, else from a task."""
    ranking = Ranking(items)
    failures: list[Failed] = []
    for place, processor in enumerate(processors):
        try:
            wanted: object = processor(ranking.items, ctx)
            if type(wanted) is not Processed and isawaitable(wanted):
                derivation = _Derivation(ranking, failures, ctx, clock, timeout_s, then)
                tasks.start(derivation.go_on, wanted, processors[place:], name="derive")
                return
            ranking.apply(_checked(wanted))
        except BaseException as raised:  # a foreign call: whatever it raises is its failure
            failures.append(_failure(processor, raised))
    then(_ranked(ranking, failures))


class _Derivation(NamedTuple):
    """One that had to wait."""

    ranking: Ranking
    failures: list[Failed]
    ctx: Context
    clock: Clock
    timeout_s: float
    then: Callable[[Ranked], None]

    async def go_on(self, awaited: Awaitable[object], processors: Sequence[PostProcessor]) -> None:
        """The first of these processors has given what to wait for; the others are still to be called."""
        wanted: object = awaited
        for place, processor in enumerate(processors):
            try:
                if place:
                    wanted = processor(self.ranking.items, self.ctx)
                if isawaitable(wanted):
                    wanted = await self._outcome(wanted)
                self.ranking.apply(_checked(wanted))
            except BaseException as raised:  # a foreign call: whatever it raises is its failure
                self.failures.append(_failure(processor, raised))
        self.then(_ranked(self.ranking, self.failures))

    async def _outcome(self, awaited: Awaitable[object]) -> object:
        with expire_after(self.clock, self.timeout_s):
            return await awaited
        raise TimeoutError


def _checked(wanted: object) -> Processed:
    if isinstance(wanted, Processed):
        return wanted
    raise TypeError(f"a post-processor gave {type(wanted).__name__} instead of Processed")


def _failure(processor: PostProcessor, raised: BaseException) -> Failed:
    """What a processor raised. Raises again what ends tasks or processes; to be called while handling it."""
    if isinstance(raised, TimeoutError):
        return Failed(processor.name, "The post-processor took too long and was left out", raised)
    if is_cancellation(raised) or is_fatal(raised):
        raise raised
    return Failed(processor.name, "The post-processor failed and was left out", raised)


def _ranked(ranking: Ranking, failures: Sequence[Failed]) -> Ranked:
    items, groups = ranking.result()
    return Ranked(items, groups, tuple(failures), ranking.next_change_at, ranking.added_bytes)
