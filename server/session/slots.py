"""What a session knows of one source that has a row: what the row says, and how far it is with it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from protocol.frozen import JsonObject, freeze
from protocol.ids import SourceId
from server.engine.clock import Timer
from server.engine.report import SavedSource
from server.session.building import Build, BuildKey
from storage.source_configs import SourceConfigRow

__all__ = ["NEVER_TOLD", "SourceSlot"]

NEVER_TOLD: Final[tuple[object, ...]] = (0, False, "off", None, None, False)
"""What listeners know of a source that has never had a row."""

# Most rows have no config of their own: those share one.
_NO_CONFIG: Final[JsonObject] = freeze({})


class SourceSlot:
    """One source that has a row: what the row says, and how far the session is with it."""

    __slots__ = (
        "build",
        "config",
        "due",
        "enabled",
        "failed",
        "failing_since",
        "failures",
        "has_credentials",
        "retry",
        "running",
        "saved",
        "source_id",
        "told",
        "version",
    )

    def __init__(self, source_id: SourceId) -> None:
        self.source_id = source_id
        self.version = 0
        self.enabled = False
        self.config = _NO_CONFIG
        self.has_credentials = False
        self.build: Build | None = None  # under way
        self.running: BuildKey | None = None  # of the instance in the engine
        self.failed: BuildKey | None = None  # of the last build, if it came to nothing
        self.due = False  # whether that one is to be tried again
        self.failures = 0
        self.failing_since: datetime | None = None
        self.retry: Timer | None = None
        self.saved: SavedSource | None = None  # what was last stored of it
        self.told: tuple[object, ...] = NEVER_TOLD  # what listeners know of it

    def take(self, row: SourceConfigRow) -> None:
        """What the row says. Its credentials are not kept: a build reads them from the row it is given."""
        self.version = row.version
        self.enabled = row.enabled
        self.config = row.config or _NO_CONFIG
        self.has_credentials = row.credentials is not None
