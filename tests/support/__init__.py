"""What the tests stand on: a real PostgreSQL, a real Redis, and a clock that the test moves."""

from __future__ import annotations

__all__: list[str] = []
