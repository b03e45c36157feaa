"""Runs the post-processors over the list; who fails is left out. What they want is applied by `ranking`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import datetime
from inspect import isawaitable
from typing import NamedTuple, TypeAlias

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


_Steps: TypeAlias = Generator[Awaitable[object], object, Ranked]


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
    steps = _steps(items, ctx, processors)
    try:
        awaited = next(steps)
    except StopIteration as done:
        then(done.value)
    else:
        tasks.start(_drive, steps, awaited, clock, timeout_s, then, name="derive")


def _steps(items: tuple[FeedItem, ...], ctx: Context, processors: Sequence[PostProcessor]) -> _Steps:
    """All processors, one after another. Yields what must be awaited, and is sent what came of it."""
    ranking = Ranking(items)
    failures: list[Failed] = []
    for processor in processors:
        try:
            wanted: object = processor(ranking.items, ctx)
            if isawaitable(wanted):
                wanted = yield wanted
            if not isinstance(wanted, Processed):
                raise TypeError(f"a post-processor gave {type(wanted).__name__} instead of Processed")
            ranking.apply(wanted)
        except GeneratorExit:
            raise
        except TimeoutError as late:
            failures.append(Failed(processor.name, "The post-processor took too long and was left out", late))
        except BaseException as raised:  # a foreign call: whatever it raises is its failure
            if is_cancellation(raised) or is_fatal(raised):
                raise
            failures.append(Failed(processor.name, "The post-processor failed and was left out", raised))
    items, groups = ranking.result()
    return Ranked(items, groups, tuple(failures), ranking.next_change_at, ranking.added_bytes)


async def _drive(
    steps: _Steps, awaited: Awaitable[object], clock: Clock, timeout_s: float, then: Callable[[Ranked], None]
) -> None:
    while True:
        result, raised = await _outcome(awaited, clock, timeout_s)
        try:
            awaited = steps.send(result) if raised is None else steps.throw(raised)
        except StopIteration as done:
            then(done.value)
            return


async def _outcome(
    awaited: Awaitable[object], clock: Clock, timeout_s: float
) -> tuple[object, BaseException | None]:
    try:
        with expire_after(clock, timeout_s):
            return await awaited, None
    except BaseException as raised:  # judged where the processor was called
        if is_cancellation(raised) or is_fatal(raised):
            raise
        return None, raised
    return None, TimeoutError()
