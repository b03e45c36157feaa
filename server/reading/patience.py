"""A bound on what one small thing may cost, inside work that has many of them."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["OutOfPatience", "within_cpu"]


class OutOfPatience(Exception):
    """It took longer than it was worth."""


def _give_up(signum: int, frame: FrameType | None) -> None:
    raise OutOfPatience


@contextmanager
def within_cpu(seconds: float) -> Generator[None]:
    """Raises OutOfPatience in the block once it has used so much processor time (not wall time: a busy
    machine is nobody's fault). For the main thread of a process, not nested."""
    before = signal.signal(signal.SIGVTALRM, _give_up)
    try:
        # Again and again: the first one may fall where the interpreter can't raise it (a finalizer).
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
