"""A fresh database for every test, and a way to look into it past our own code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import asyncpg
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.postgres import PostgresServer

__all__ = ["Databases", "Link", "connect", "open_databases", "query_value"]


class Databases:
    """Makes databases in a cluster, and drops them. One connection is kept for that, in a thread of its
    own.
    """

    def __init__(self, server: PostgresServer, portal: BlockingPortal) -> None:
        self._server = server
        self._portal = portal
        self._connection: Link | None = None
        self._made = 0
        self._templates: dict[str, str] = {}
        self._copies_files: bool | None = None

    def create(self, template: str | None = None) -> str:
        """A new database, empty or a copy of another; its name."""
        self._made += 1
        name = f"freya_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'} {self._strategy()}")
        return name

    def drop(self, name: str) -> None:
        """Drops it, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self, key: str, prepare: Callable[[str], Awaitable[object]]) -> str:
        """A database made once a run: `prepare(dsn)` fills it, and every further call gets the same name."""
        if key not in self._templates:
            name = self.create()
            self._portal.call(prepare, self._server.dsn(name))
            self._templates[key] = name
        return self._templates[key]

    def execute(self, sql: str) -> None:
        """Runs one statement as superuser; starts the server where a test left it stopped."""
        if not self._server.running:
            self._server.start()
        self._portal.call(self._execute, sql)

    def _strategy(self) -> str:
        # Copying the files beats copying through the write-ahead log, the default since there is a choice.
        if self._copies_files is None:
            version = self._portal.call(query_value, self._server.dsn("postgres"), "SHOW server_version_num")
            self._copies_files = int(str(version)) >= 150000
        return "STRATEGY FILE_COPY" if self._copies_files else ""

    def close(self) -> None:
        if self._connection is not None:
            self._portal.call(self._connection.close)

    async def _execute(self, sql: str) -> None:
        if self._connection is None or not await self._alive():
            self._connection = await connect(self._server.dsn("postgres"))
        await self._connection.execute(sql)

    async def _alive(self) -> bool:
        # A server restarted by a test has closed the connection, perhaps without this side having read it
        # yet.
        assert self._connection is not None
        try:
            await self._connection.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True


@contextmanager
def open_databases(server: PostgresServer) -> Generator[Databases]:
    with start_blocking_portal("asyncio") as portal:
        databases = Databases(server, portal)
        yield databases
        if server.running:
            databases.close()


class Link(Protocol):
    """As much of a connection as tests use to look into a database past our own code."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def fetchval(self, query: str, *args: object) -> object: ...
    async def close(self) -> None: ...


async def connect(dsn: str) -> Link:
    untyped: Any = asyncpg
    return cast("Link", await untyped.connect(dsn))


async def query_value(dsn: str, sql: str, *args: object) -> object:
    """Runs one statement over a connection of its own; the first column of the first row, or None."""
    link = await connect(dsn)
    try:
        return await link.fetchval(sql, *args)
    finally:
        await link.close()
