"""What goes out: one shared client for the services we know, one guarded fetcher for what users name."""

from __future__ import annotations

__all__: list[str] = []
