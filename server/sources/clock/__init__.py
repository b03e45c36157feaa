"""freya.clock: a greeting, the date, sunrise and sunset."""

from __future__ import annotations

from server.sources.clock.source import ClockConfig, ClockProvider, ClockSource

__all__ = ["ClockConfig", "ClockProvider", "ClockSource"]
