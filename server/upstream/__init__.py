"""What goes out: one shared client for the services we know, one guarded fetcher for what users name, and
processes for what is long to read. `upstreams` makes them for a process."""

from __future__ import annotations

__all__: list[str] = []
