"""The store against a real PostgreSQL, with a line to it that tests can watch and cut."""

from __future__ import annotations

__all__: list[str] = []
