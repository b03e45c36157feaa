"""A real PostgreSQL of the tests' own.

The cluster lives in a directory that goes with the run, in memory where there is room. It answers on a Unix
socket and on loopback, and doesn't care for the disk: it survives a kill of its own processes, not of the
machine.
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
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.support.ports import free_port
from tests.support.postgres_programs import PostgresUnusable, candidates, unprivileged_user
from tests.support.reaper import Reaper

__all__ = ["PostgresServer", "start_postgres"]

PATIENCE_S = 30.0
OWNER = "freya"
# A cluster takes 50 MB and a database 8; containers often have a /dev/shm of 64 MB, which is too small.
ROOM_BYTES = 1 << 30

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


class PostgresServer:
    """One cluster. `stop`, `start` and `restart` are for tests of what happens then; commits survive them."""

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
        home = _new_directory(None)
        self._reaper.remove(home)
        installation = programs.parent
        copy = home / installation.parent.name / installation.name
        shutil.copytree(installation, copy, symlinks=True)
        libraries = installation.parent.with_name(installation.parent.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.name)
        copy.parent.chmod(0o755)
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


@contextmanager
def start_postgres(reaper: Reaper) -> Generator[PostgresServer]:
    """A running cluster, made with the first programs that are able to; gone afterwards."""
    reasons: list[str] = []
    for programs in candidates():
        directory = _new_directory(_memory())
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


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _memory() -> Path | None:
    """A file system in memory with room for a cluster; copying a database there takes a tenth of the time."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES:
        return memory
    return None


def _new_directory(where: Path | None) -> Path:
    # Not under pytest's own: the path of a Unix socket has about a hundred bytes, and that one is deep.
    directory = Path(tempfile.mkdtemp(prefix="freya-pg-", dir=where))
    user = unprivileged_user()
    if user is not None:
        shutil.chown(directory, user, _group(user))
    return directory
