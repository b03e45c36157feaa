"""Tasks that end together: the calls of one session, inside the lifespan's task group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar, TypeVarTuple, Unpack
from uuid import uuid4

import structlog
from anyio import CancelScope, Event, current_effective_deadline, get_cancelled_exc_class
from anyio.abc import TaskGroup

__all__ = ["TaskScope", "Waited", "finish_at_once", "is_cancellation", "is_fatal"]

Args = TypeVarTuple("Args")
T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)


class TaskScope:
    """A set of tasks in somebody else's task group, which can be ended as one.

    While nothing runs there is no task. What leaves a task as an exception is logged with an id and goes no
    further: the group is shared with everybody else's sessions.
    """

    __slots__ = ("_closed", "_group", "_idle", "_running")

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._running: dict[CancelScope, int] = {}  # each with the id of its task; 0 before it began
        self._idle: Event | None = None
        self._closed = False

    @property
    def count(self) -> int:
        """How many tasks were started and have not ended."""
        return len(self._running)

    def start(
        self,
        fn: Callable[[Unpack[Args]], Awaitable[object]],
        *args: *Args,
        name: str | None = None,
    ) -> CancelScope:
        """Starts `fn(*args)` as a task and returns at once, before it has begun.

        The scope that is returned cancels this one task. After `aclose` a task is cancelled from the start:
        it gets no further than its first wait. May also be called where no task runs (in a timer's callback),
        in a program that `anyio.run` runs.
        """
        scope = CancelScope()
        if self._closed:
            scope.cancel()
        self._running[scope] = 0
        self._group.start_soon(self._run, scope, fn, args, name=name)
        return scope

    async def aclose(self) -> None:
        """Cancels every task and returns when all have ended.

        May be called by one of the tasks themselves: that one is not cancelled, and not waited for.
        Idempotent; cancelled while it waits, the tasks have been told to end in any case.
        """
        self._closed = True
        me = _task_id()
        for scope, task in list(self._running.items()):
            if task != me:
                scope.cancel()
        while any(task != me for task in self._running.values()):
            self._idle = self._idle or Event()
            await self._idle.wait()

    async def _run(
        self,
        scope: CancelScope,
        fn: Callable[[Unpack[Args]], Awaitable[object]],
        args: tuple[*Args],
    ) -> None:
        self._running[scope] = _task_id()
        try:
            with scope:
                await fn(*args)
        except BaseException as left:  # the top of a task: the group must not end for one task's sake
            if is_cancellation(left) or is_fatal(left):
                raise
            _log.exception("task_failed", task=getattr(fn, "__qualname__", repr(fn)), error_id=uuid4().hex)
        finally:
            del self._running[scope]
            if self._idle is not None:
                self._idle.set()
                self._idle = None


class Waited(Exception):
    """A coroutine that was to end without waiting has waited for something."""


def finish_at_once(coroutine: Coroutine[object, None, T]) -> T:
    """The result of a coroutine that never waits: run to its end here and now, without a task.

    Raises what it raises; and Waited, thrown into it where it waits, if it does so after all.
    """
    try:
        coroutine.send(None)
        coroutine.throw(Waited())
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise Waited


def is_cancellation(left: BaseException) -> bool:
    """Whether `left`, just caught in this task, is somebody's wish to end it.

    Foreign code also raises the cancellation class when it waits for a task of its own that was cancelled.
    That is its failure; and let out of a task, it would end the whole group.
    """
    if not isinstance(left, get_cancelled_exc_class()):
        return False
    task = asyncio.current_task()
    # The event loop's own way to cancel, used at the end of the process, is not seen by anyio's scopes.
    told = task is not None and task.cancelling() > 0
    return told or current_effective_deadline() == float("-inf")


def is_fatal(left: BaseException) -> bool:
    """Whether `left` means the end of the process, which nobody may stop.

    That is the keyboard's interrupt alone. SystemExit is what foreign code says that believes itself to be
    the program (`sys.exit()` in a library): our own end comes by signal, and ends tasks by cancellation.
    """
    return isinstance(left, KeyboardInterrupt)


def _task_id() -> int:
    return id(asyncio.current_task())
