"""A worker process with limits."""

from __future__ import annotations

import os
import resource
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from typing_extensions import TypeVarTuple, Unpack

__all__ = ["Packed", "tame"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MEMORY_BYTES: Final = 1024 * 1024 * 1024
_NICE: Final = 5

_is_tame = False


@dataclass(frozen=True, slots=True)
class Packed:
    """A long argument, compressed (zlib): what goes to a worker is copied on its way, by the event loop."""

    data: bytes


def tame(fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Runs in the worker: limits the process, once for its life, and calls `fn` with what was packed
    unpacked."""
    global _is_tame
    if not _is_tame:
        _is_tame = True
        os.nice(_NICE)
        with suppress(OSError, ValueError):  # not every system limits the address space
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    unpacked: Any = [zlib.decompress(each.data) if isinstance(each, Packed) else each for each in args]
    return cast("Callable[..., T]", fn)(*unpacked)
