from __future__ import annotations

from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest

from storage.database import Database
from tests.storage.wire import Wire, open_wire
from tests.support.postgres import PostgresServer


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    async with Database.open(database_url, pool_size=4) as database:
        yield database


@pytest.fixture
async def other(database_url: str) -> AsyncGenerator[Database]:
    """The same database as another replica has it."""
    async with Database.open(database_url, pool_size=4) as database:
        yield database


@pytest.fixture
async def wire(postgres: PostgresServer, database_url: str) -> AsyncGenerator[Wire]:
    """A line to the test's database."""
    name = urlsplit(database_url).path.removeprefix("/")
    async with open_wire(postgres.dsn(name, tcp=True)) as wire:
        yield wire
