"""freya migrate: the database's schema, brought to this release's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.settings import Settings

__all__ = ["migrate"]


def migrate() -> None:
    """Apply the migrations that the database lacks. Safe to run at any time, from several places at once."""
    from server.cli.running import run_async
    from server.settings import Settings

    settings = Settings.load()
    applied = run_async(lambda: _migrate(settings))
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do\n")


async def _migrate(settings: Settings) -> tuple[str, ...]:
    from server.stores import database_address
    from storage.migrate import migrate as apply

    async with database_address(settings) as address:
        return await apply(address)
