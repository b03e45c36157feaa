"""freya.calendar: what is on today, from a CalDAV account or a published calendar."""

from __future__ import annotations

from server.sources.calendar.config import CalendarConfig, CalendarCredentials
from server.sources.calendar.source import CalendarProvider, CalendarSource

__all__ = ["CalendarConfig", "CalendarCredentials", "CalendarProvider", "CalendarSource"]
