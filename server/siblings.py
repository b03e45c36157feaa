"""The workers of one port: processes that show themselves to the outside as one server.

Whoever asks for metrics reaches one of them by chance, so each can be asked by the others for its own page,
over a Unix socket in a directory that only they can enter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio import TASK_STATUS_IGNORED, EndOfStream, create_task_group, move_on_after
from anyio.abc import SocketStream, TaskStatus

from server.metrics_merge import merge_pages

__all__ = ["Siblings"]

# Longer than a page takes; whoever asks is waiting.
_PATIENCE_S: Final = 2.0
_MAX_PAGE_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Siblings:
    """One worker's place among `count`."""

    folder: Path
    slot: int
    count: int

    async def serve(
        self, page: Callable[[], bytes], *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        """Gives this worker's own page to the others, until cancelled."""

        async def give(stream: SocketStream) -> None:
            async with stream:
                try:
                    await stream.send(page())
                except anyio.BrokenResourceError:
                    return  # whoever asked has gone

        async with await anyio.create_unix_listener(self._door(self.slot), mode=0o600) as listener:
            task_status.started()
            await listener.serve(give)

    async def whole_page(self, own: Callable[[], bytes]) -> bytes:
        """The page of all workers together. One that does not answer in time is left out, and counted."""
        pages = {self.slot: own()}

        async def ask(slot: int) -> None:
            with move_on_after(_PATIENCE_S):
                page = await self._page_of(slot)
                if page:
                    pages[slot] = page

        async with create_task_group() as group:
            for slot in range(self.count):
                if slot != self.slot:
                    group.start_soon(ask, slot)
        return merge_pages(pages, workers=self.count)

    async def _page_of(self, slot: int) -> bytes:
        received = bytearray()
        try:
            async with await anyio.connect_unix(self._door(slot)) as stream:
                while len(received) < _MAX_PAGE_BYTES:
                    received += await stream.receive()
        except EndOfStream:
            return bytes(received)
        except (OSError, anyio.BrokenResourceError):
            pass
        return b""

    def _door(self, slot: int) -> Path:
        return self.folder / f"{slot}.sock"
