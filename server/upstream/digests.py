"""The names of bodies by what is in them."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from anyio.lowlevel import checkpoint

__all__ = ["digest_of"]

_STEP_BYTES: Final = 512 * 1024


async def digest_of(body: bytes) -> bytes:
    """16 bytes that name a body, worked out in steps: one of megabytes would hold up the event loop."""
    state, view = blake2b(digest_size=16), memoryview(body)
    for at in range(0, len(view), _STEP_BYTES):
        state.update(view[at : at + _STEP_BYTES])
        if at:
            await checkpoint()
    return state.digest()
