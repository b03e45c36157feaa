"""freya.reminders. Read `recurrence` for when a series falls due, `window` for what of it is shown when,
`edits` and `retiming` for what actions do, `source` for how they are joined."""

from __future__ import annotations

from server.sources.reminders.config import RemindersConfig
from server.sources.reminders.source import RemindersProvider, RemindersSource

__all__ = ["RemindersConfig", "RemindersProvider", "RemindersSource"]
