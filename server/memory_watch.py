"""Keeps the process below a mark of resident memory: garbage goes first, then idle sessions, then new
connections have to wait.

A process that is killed for its size takes everybody with it; an idle session costs its user one read of rows
when they come back.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import structlog

__all__ = ["MemoryWatch", "resident_bytes"]

_log = structlog.get_logger(__name__)

_EVERY_S = 2.0
_SHED = 200
"""Idle sessions that go at one look: ending one may write what it holds."""
_WELL_AGAIN = 0.95
"""Of the mark: memory hovers, and clients should not be let in and put off by turns."""


class MemoryWatch:
    """`shed` ends so many idle sessions, the longest idle first, and says how many there were; `overloaded`
    is told whether new connections are to be put off. `collect` looks for garbage in everything, which takes
    its time: once on the way up.
    """

    def __init__(
        self,
        high_bytes: int,
        *,
        resident: Callable[[], int | None],
        shed: Callable[[int], int],
        overloaded: Callable[[bool], None],
        collect: Callable[[], object] = gc.collect,
    ) -> None:
        self._high_bytes = high_bytes
        self._resident = resident
        self._shed = shed
        self._overloaded = overloaded
        self._collect = collect
        self._has_collected = False
        self._is_overloaded = False

    async def run(self) -> None:
        """Looks every two seconds until cancelled; returns at once where there is no mark."""
        while self._high_bytes > 0:
            self.look()
            await anyio.sleep(_EVERY_S)

    def look(self) -> None:
        """One look, and what follows from it."""
        resident = self._resident()
        if resident is None:
            return
        if resident > self._high_bytes and not self._has_collected:
            self._has_collected = True
            self._collect()
        elif resident > self._high_bytes:
            self._turn(self._shed(_SHED) == 0 or self._is_overloaded, resident)
        elif resident < self._high_bytes * _WELL_AGAIN:
            self._has_collected = False
            self._turn(False, resident)

    def _turn(self, overloaded: bool, resident: int) -> None:
        if overloaded != self._is_overloaded:
            self._is_overloaded = overloaded
            self._overloaded(overloaded)
            _log.warning("memory_over_mark" if overloaded else "memory_below_mark", resident_bytes=resident)


def resident_bytes() -> int | None:
    """What the process holds in memory now; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
