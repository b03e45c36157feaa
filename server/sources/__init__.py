"""The built-in sources, what providers are given, and the registry of them all."""

from __future__ import annotations

__all__: list[str] = []
