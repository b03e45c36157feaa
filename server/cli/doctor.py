"""freya doctor: what these settings lead to, what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.cli.checks import Finding

__all__ = ["doctor"]


def doctor() -> None:
    """Look at settings, keys, database, Redis, clock and limits; say what is wrong and what to do."""
    import anyio

    from server.cli.checks import look_everywhere
    from server.cli.stop import Stop
    from server.settings import Settings, SettingsError

    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stdout.write("".join(f"WRONG  {name}  {sentence}\n" for name, sentence in error.problems))
        raise Stop("these settings can't be used; nothing else was looked at", 2) from error

    async def look() -> bool:
        well = True
        async for finding in look_everywhere(settings):
            sys.stdout.write(_line(finding))
            sys.stdout.flush()
            well = well and finding.level != "WRONG"
        return well

    if not anyio.run(look):
        raise Stop("something is wrong: see above")


def _line(finding: Finding) -> str:
    return f"{finding.level:<5}  {finding.what:<12}  {finding.sentence}\n"
