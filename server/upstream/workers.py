"""Work that takes long, in processes of its own.

A calendar of twenty thousand events or a feed of megabytes is pure-Python work for seconds. In a thread it
would hold the interpreter's lock for milliseconds at a time, regular expressions over the whole text for much
longer, and every socket of the process would wait. So it goes to a worker process, which is also the place
for limits: of time, of memory, of politeness.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeVar, cast

import anyio.to_process
import anyio.to_thread
import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter
from typing_extensions import TypeVarTuple, Unpack

from server.engine.source import BadAnswer
from server.reading.tame import Packed, tame

__all__ = ["WorkerStatistics", "Workers"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = structlog.stdlib.get_logger(__name__)

_AT_ONCE: Final = 2
_TIMEOUT_S: Final = 20.0
_FOUND_DEAD_S: Final = 0.2
_LONG_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """Counts since the start."""

    runs: int
    failures: int
    """Work that took too long, too much, or ended its process."""
    under_way: int
    waiting: int


class Workers:
    """Runs functions of our own in at most `at_once` processes, begun when they are first needed and kept."""

    def __init__(self, *, at_once: int = _AT_ONCE, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._turn = CapacityLimiter(at_once)
        self._processes = CapacityLimiter(at_once)
        self._runs = self._failures = 0

    async def run(self, what: str, fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """`fn(*args)`; all of it must be picklable. `what` is what is being read, in words for the user.

        Raises what `fn` raises, and BadAnswer when it takes too long or too much. Cancelled: the process is
        killed, and the next run gets a new one.
        """
        async with self._turn:
            self._runs += 1
            try:
                with anyio.fail_after(self._timeout_s):
                    packed: Any = [await _packed(each) for each in args]
                    # What is packed has another type on the way.
                    return await self._answered(cast("Callable[..., T]", tame), fn, *packed)
            except TimeoutError:
                self._failures += 1
                raise BadAnswer(f"{what} takes too long to read") from None
            except (MemoryError, BrokenWorkerProcess) as broken:
                self._failures += 1
                cause = broken.__cause__ or broken
                _log.warning("worker_ended", work=fn.__name__, error=f"{type(cause).__name__}: {cause}")
                raise BadAnswer(f"{what} takes too much to read") from None

    async def _answered(self, call: Callable[..., T], *args: object) -> T:
        """As `run_sync`, but for a process that had ended while it waited for work: then by another."""
        for _ in range(int(self._processes.total_tokens)):
            began = monotonic()
            try:
                return await self._once(call, *args)
            except BrokenWorkerProcess:
                if monotonic() - began > _FOUND_DEAD_S:
                    raise  # it was alive when it got this work
        return await self._once(call, *args)

    async def _once(self, call: Callable[..., T], *args: object) -> T:
        return await anyio.to_process.run_sync(call, *args, cancellable=True, limiter=self._processes)

    def statistics(self) -> WorkerStatistics:
        """See WorkerStatistics."""
        turn = self._turn.statistics()
        return WorkerStatistics(
            runs=self._runs,
            failures=self._failures,
            under_way=turn.borrowed_tokens,
            waiting=turn.tasks_waiting,
        )


async def _packed(argument: object) -> object:
    """Long bytes compressed, in a thread, where the library lets others run meanwhile."""
    if isinstance(argument, bytes) and len(argument) > _LONG_BYTES:
        return Packed(await anyio.to_thread.run_sync(zlib.compress, argument, 1))
    return argument
