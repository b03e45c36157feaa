"""freya rotate-keys: every stored credential, sealed anew with the first key of the ring."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.settings import Settings
    from storage.credentials import RotationProgress

__all__ = ["rotate_keys"]


def rotate_keys(
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Rows read and written at once.")] = 500,
) -> None:
    """Re-encrypt what older keys sealed. Can be stopped anywhere and run again; tells how many rows are
    left for each key, so that you know when an old one can be dropped.
    """
    from server.cli.running import run_async
    from server.cli.stop import Stop
    from server.settings import Settings

    settings = Settings.load()
    last = run_async(lambda: _rotate(settings, batch))
    if last.left:
        kept = ", ".join(sorted(last.left))
        raise Stop(
            f"{sum(last.left.values())} rows are still sealed with other keys: {kept} must stay in\n"
            "FREYA_CREDENTIAL_KEYS. What no key opens stays as it is until its user connects again."
        )
    sys.stdout.write("every row is sealed with the first key; the others can be dropped\n")


async def _rotate(settings: Settings, batch: int) -> RotationProgress:
    from server.keys import credential_ring
    from server.stores import open_database
    from storage.credentials import rotate

    ring = credential_ring(settings)
    progress: RotationProgress | None = None
    async with open_database(settings, may_migrate=False) as database:
        async for progress in rotate(database, ring, batch=batch):
            sys.stdout.write(_line(progress))
    assert progress is not None
    return progress


def _line(progress: RotationProgress) -> str:
    left = ", ".join(f"{count} under {key}" for key, count in sorted(progress.left.items())) or "none"
    unreadable = f", {progress.unreadable} that no key opens" if progress.unreadable else ""
    return f"{progress.rotated} sealed anew{unreadable}; left: {left}\n"
