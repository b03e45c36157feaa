"""Waiting for what nobody announces: states of the driver, of the server, of the file system."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from storage.database import Database

__all__ = ["until", "until_someone_waits_for_a_lock"]

PATIENCE_S = 60.0


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- it has no event
            await anyio.sleep(0.001)


async def until_someone_waits_for_a_lock(database: Database) -> None:
    """As seen over a connection of `database`; the lock may be held by any other."""
    with anyio.fail_after(PATIENCE_S):
        while not await database.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
            await anyio.lowlevel.checkpoint()
