"""Builds the parts of a server and joins them. Nothing else is wired anywhere else.

    keys -> database -> sessions -> push -> listeners

Each part is a context manager that ends what it began; leaving them in reverse order is the shutdown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from server.settings import Settings
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate

__all__ = ["database_address", "open_database"]

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def database_address(settings: Settings) -> AsyncGenerator[str]:
    """DATABASE_URL, or the address of the embedded PostgreSQL, which runs as long as the block (and as
    long as any other process uses it). Raises EmbeddedPostgresFailed.
    """
    if settings.storage.database_url is not None:
        yield settings.storage.database_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(settings.storage.data_dir)
    async with embedded as address:
        for notice in embedded.notices:
            _log.info("embedded_postgres", notice=notice)
        yield address


@asynccontextmanager
async def open_database(settings: Settings, *, may_migrate: bool = True) -> AsyncGenerator[Database]:
    """The database, with this code's schema. Raises StorageError with what to do."""
    storage = settings.storage
    async with database_address(settings) as address:
        if may_migrate and storage.migrate:
            applied = await migrate(address)
            if applied:
                _log.info("migrated", applied=list(applied))
        async with Database.open(
            address, pool_size=storage.db_pool, timeout_s=storage.db_timeout_s
        ) as database:
            yield database
