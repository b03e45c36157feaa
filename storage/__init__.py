"""What outlives a process: rows in PostgreSQL, through asyncpg. Imports nothing of the server.

Start at `database` (transactions, the user's order of writes) and `loading` (everything of many users in
one query); the other modules are one table each.
"""

from __future__ import annotations

from storage.database import Database, PoolStatistics, ReadTx, WriteTx
from storage.errors import StorageError, StorageUnavailable

__all__ = ["Database", "PoolStatistics", "ReadTx", "StorageError", "StorageUnavailable", "WriteTx"]
