"""freya.tfl: what is wrong on London's lines."""

from __future__ import annotations

from server.sources.tfl.lines import LineId
from server.sources.tfl.source import SetLines, TflConfig, TflProvider, TflSettings, TflSource

__all__ = ["LineId", "SetLines", "TflConfig", "TflProvider", "TflSettings", "TflSource"]
