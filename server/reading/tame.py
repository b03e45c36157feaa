"""A worker process with limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from typing_extensions import TypeVarTuple, Unpack

__all__ = ["tame"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MEMORY_BYTES: Final = 1024 * 1024 * 1024
_NICE: Final = 5

_is_tame = False


def tame(fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Runs in the worker: limits the process, once for its life, and calls `fn`."""
    global _is_tame
    if not _is_tame:
        _is_tame = True
        os.nice(_NICE)
        with suppress(OSError, ValueError):  # not every system limits the address space
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    return fn(*args)
