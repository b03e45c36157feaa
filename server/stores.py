"""The database that the settings name: one elsewhere, or a PostgreSQL of our own beside the server."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio
import structlog
from anyio.abc import TaskGroup

from server.settings import Settings
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate
from storage.restarts import Incident

__all__ = ["database_address", "open_database"]

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def database_address(settings: Settings, beside: TaskGroup | None = None) -> AsyncGenerator[str]:
    """DATABASE_URL, or the address of the embedded PostgreSQL, which runs as long as the block (and as
    long as any other process uses it); with a group `beside`, it is started again where it dies meanwhile.
    Raises EmbeddedPostgresFailed.
    """
    if settings.storage.database_url is not None:
        yield settings.storage.database_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(settings.storage.data_dir)
    async with embedded as address:
        for notice in embedded.notices:
            _log.info("embedded_postgres", notice=notice)
        with _kept_running(embedded, beside):
            yield address


@contextmanager
def _kept_running(embedded: EmbeddedPostgres, beside: TaskGroup | None) -> Generator[None]:
    scope = anyio.CancelScope()

    async def keep() -> None:
        with scope:
            await embedded.keep_running(_tell_of_postgres)

    if beside is not None:
        beside.start_soon(keep, name="embedded postgres")
    try:
        yield
    finally:
        # Before it is stopped: else that would be mended.
        scope.cancel()


def _tell_of_postgres(incident: Incident) -> None:
    level = logging.INFO if incident.what == "back" else logging.ERROR
    _log.log(level, f"embedded_postgres_{incident.what}", attempt=incident.attempt, reason=incident.reason)


@asynccontextmanager
async def open_database(
    settings: Settings, *, may_migrate: bool = True, beside: TaskGroup | None = None
) -> AsyncGenerator[Database]:
    """The database, with this code's schema; `beside` as for `database_address`. Raises StorageError with
    what to do.
    """
    storage = settings.storage
    async with database_address(settings, beside) as address:
        if may_migrate and storage.migrate:
            applied = await migrate(address)
            if applied:
                _log.info("migrated", applied=list(applied))
        async with Database.open(
            address, pool_size=storage.db_pool, timeout_s=storage.db_timeout_s
        ) as database:
            yield database
