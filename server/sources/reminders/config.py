"""What a user sets for their reminders: the config, as its form and its JSON Schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import Field

from server.sources.provider import ConfigModel
from server.sources.reminders.window import Window
from server.sources.zones import TimeZoneName

__all__ = ["RemindersConfig"]

_DAY_MS: Final = 24 * 60 * 60 * 1000
_MONTH_MS: Final = 31 * _DAY_MS


class RemindersConfig(ConfigModel):
    """How much of the reminders is shown."""

    look_ahead_ms: int = Field(
        default=_DAY_MS,
        ge=0,
        le=_MONTH_MS,
        title="Look ahead (ms)",
        description="How long before it is due a reminder appears.",
    )
    look_back_ms: int = Field(
        default=_DAY_MS,
        ge=0,
        le=_MONTH_MS,
        title="Look back (ms)",
        description="How long after it was due a reminder that is done is still shown, if such are shown.",
    )
    include_completed: bool = Field(
        default=False, title="Show what is done", description="Whether reminders stay when they are done."
    )
    missed_per_reminder: int = Field(
        default=3,
        ge=1,
        le=50,
        title="Missed ones",
        description="Of a repeating reminder, how many missed occurrences stay until they are done.",
    )
    default_time_zone: TimeZoneName | None = Field(
        default=None,
        title="Time zone",
        description="For new reminders that name none. If not set, the zone of your own settings.",
    )

    def window(self) -> Window:
        """The same as the maths knows it."""
        return Window(
            look_back=timedelta(milliseconds=self.look_back_ms),
            look_ahead=timedelta(milliseconds=self.look_ahead_ms),
            include_completed=self.include_completed,
            missed=self.missed_per_reminder,
        )
