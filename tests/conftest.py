"""The real parts that all tests share, and the loop that each runs on.

- `database_url`: a fresh database with our schema; `empty_database_url`: one without
- `postgres`: the cluster they are in, to stop and start
- `redis_url`: an empty Redis; `redis_server`: the same, to kill and pause
- `clock`: time that stands still until the test moves it

An async test runs on asyncio's own loop. `@pytest.mark.loop("uvloop")` chooses the server's, and
`@pytest.mark.loop("asyncio", "uvloop")` runs it on both; a test that names `clock` runs on the virtual one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest
import uvloop
from hypothesis import settings

from storage.migrate import migrate
from tests.support.clock import TestClock, VirtualLoop
from tests.support.databases import Databases, open_databases
from tests.support.postgres import PostgresServer, start_postgres
from tests.support.reaper import Reaper
from tests.support.redis import RedisServer

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "virtual": VirtualLoop,
}

# The same examples in every run, so that a failure is of the change and not of the day; no deadlines, since
# they measure the machine. HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "loop(*names): the event loops to run an async test on: asyncio, uvloop, virtual"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "anyio_backend" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("loop")
    names: tuple[str, ...] = marker.args if marker is not None else ()
    if "clock" in metafunc.fixturenames:
        if marker is not None and names != ("virtual",):
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: `clock` runs on the virtual loop alone")
        names = ("virtual",)
    if names:
        ids = names if len(names) > 1 else (pytest.HIDDEN_PARAM,)
        metafunc.parametrize("anyio_backend", names, indirect=True, ids=ids)


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": LOOPS[getattr(request, "param", "asyncio")]}


@pytest.fixture
async def clock() -> TestClock:
    """Time that stands still until `await clock.advance(seconds)`; see `tests/support/clock.py`."""
    return TestClock()


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    """Ends what the run started, also where the run is killed."""
    reaper = Reaper()
    yield reaper
    reaper.close()


@pytest.fixture(scope="session")
def postgres_cluster(reaper: Reaper) -> Iterator[PostgresServer]:
    with start_postgres(reaper) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres_cluster: PostgresServer) -> Iterator[Databases]:
    """Makes and drops further databases, for tests that want several."""
    with open_databases(postgres_cluster) as databases:
        yield databases


@pytest.fixture
def postgres(postgres_cluster: PostgresServer) -> Iterator[PostgresServer]:
    """The cluster of this run. A test may stop and restart it: nobody else is using it meanwhile."""
    yield postgres_cluster
    if not postgres_cluster.running:
        postgres_cluster.start()


@pytest.fixture
def database_url(postgres: PostgresServer, databases: Databases) -> Iterator[str]:
    """The address of a database with our schema and nothing in it, of this test alone."""
    name = databases.create(databases.template("migrated", migrate))
    yield postgres.dsn(name)
    databases.drop(name)


@pytest.fixture
def empty_database_url(postgres: PostgresServer, databases: Databases) -> Iterator[str]:
    """The address of a database without any table, of this test alone."""
    name = databases.create()
    yield postgres.dsn(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def redis_process(reaper: Reaper) -> Iterator[RedisServer]:
    server = RedisServer(reaper)
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """An empty Redis. A test may kill, pause and restart it; the next test finds it well again."""
    redis_process.fresh()
    return redis_process


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url
