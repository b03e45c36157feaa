"""The feed engine: sources in, one ranked list out. Knows nothing of users, sockets or SQL.

Read `source` for what a source is, `engine` for how they are joined.
"""

from __future__ import annotations

__all__: list[str] = []
