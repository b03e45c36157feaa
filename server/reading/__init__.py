"""What is read in worker processes: calendars, feeds, the answers of CalDAV servers.

Pure functions from bytes to plain values. A worker imports nothing else of ours, so nothing here does.
"""

from __future__ import annotations

__all__: list[str] = []
