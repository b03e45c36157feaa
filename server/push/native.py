"""The fan-out's loop in C: optional, built by `server.build_native`, used where FREYA_NATIVE_FANOUT names it.

It saves what a transport does around the system call. Only sockets of uvloop's plain TCP transports are
written to like that, and only while nothing of theirs waits: see `Cohort`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from array import array
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Final, Protocol, cast

__all__ = ["SendAll", "load", "plain_descriptor"]

_MODULE: Final = "fanout_loop"


class SendAll(Protocol):
    """Sends the same bytes to all descriptors (negative ones are passed over) without ever waiting; returns
    the places of those that have not taken all of it, and how much they took."""

    def __call__(self, fds: array[int], frame: bytes, /) -> list[tuple[int, int]]: ...


def load(library: Path) -> SendAll:
    """The loop of a library that was built for this Python. Raises ImportError."""
    loader = ExtensionFileLoader(_MODULE, str(library))
    spec = importlib.util.spec_from_file_location(_MODULE, library, loader=loader)
    if spec is None:
        raise ImportError(f"{library} is no library")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return cast("SendAll", module.send_all)


def plain_descriptor(transport: asyncio.Transport) -> int:
    """The descriptor behind a transport whose bytes go out as they are; -1 for any other, TLS above all.

    uvloop's are known to keep their descriptor open until `connection_lost` has returned, so that the number
    can't have become somebody else's before.
    """
    if type(transport) is not _plain_type():
        return -1
    return cast("int", transport.get_extra_info("socket").fileno())


def _plain_type() -> type | None:
    loop = sys.modules.get("uvloop.loop")
    return None if loop is None else cast("type", loop.TCPTransport)
