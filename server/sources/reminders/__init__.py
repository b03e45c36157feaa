"""freya.reminders. Read `recurrence` for when a series falls due, `window` for what of it is shown when,
`edits` for what actions do, `source` for how they are joined."""

from __future__ import annotations

from server.sources.reminders.source import RemindersConfig, RemindersProvider, RemindersSource

__all__ = ["RemindersConfig", "RemindersProvider", "RemindersSource"]
