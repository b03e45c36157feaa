"""One cluster of the embedded PostgreSQL: making it, having it run, finding what runs already, stopping it.

Who may do that, and when, is not decided here: see `embedded`. Everything blocks.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from storage.errors import EmbeddedPostgresFailed
from storage.postgres_programs import Account, Programs, public_directory

__all__ = ["PATIENCE_S", "Cluster", "digest_of", "initialise", "made_with", "takes_path"]

PATIENCE_S: Final = 60.0  # for a start or a stop, with whatever recovery it takes
_USER: Final = "freya"
_SOCKET: Final = ".s.PGSQL.5432"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing zero included.
_SOCKET_PATH_MAX: Final = 103
# What a socket directory may be made of, so that no list, quote or address that names it needs escaping.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
# `pg_ctl` puts the path between double quotes in a line for the shell.
_TAKEN_PATH = re.compile(r"""[^"$`\\\x00-\x1f]+""")
_SETTINGS: Final = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A week of logs, one file a weekday.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
}


class Cluster:
    """A cluster that exists. Its methods want that nobody else is just making, starting or stopping it."""

    def __init__(
        self, directory: Path, programs: Programs, account: Account | None, shared_dir: Path
    ) -> None:
        self._directory = directory
        self._programs = programs
        self._account = account
        self._shared_dir = shared_dir

    def start(self, pause: Callable[[], None]) -> str:
        """Adopt it if it runs, start it if not; its address once it answers. Calls `pause` to wait a little.

        Raises EmbeddedPostgresFailed with what PostgreSQL said.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            pid, sockets = self._recorded()
            if self._ready(sockets):
                return _dsn(sockets)
            if pid is None or not _works_in(pid, self._directory):
                self._launch(pid, sockets)
            if time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"PostgreSQL did not start within {PATIENCE_S:g} s: see {self._directory}/log"
                )
            # Just started, or still recovering or stopping from before.
            pause()

    @property
    def running(self) -> bool:
        """Whether its main process is there. It may still be starting, or recovering. Raises OSError where
        that can't be seen at the moment."""
        pid, _ = self._read_pid_file()
        return pid is not None and _works_in(pid, self._directory)

    def stop(self) -> None:
        """Stop it if it runs; what was committed is safe, what was not is rolled back."""
        if self.running:
            self._pg_ctl("stop", "-m", "fast")

    def _launch(self, stale_pid: int | None, recorded: Path) -> None:
        if stale_pid is not None and _is_alive(stale_pid):
            # The number went to some other process, which makes PostgreSQL believe that it runs already.
            for leftover in (
                recorded / _SOCKET,
                recorded / f"{_SOCKET}.lock",
                self._directory / "postmaster.pid",
            ):
                leftover.unlink(missing_ok=True)
        sockets = self._socket_directory()
        options = f"-c listen_addresses='' -c unix_socket_directories={shlex.quote(str(sockets))} -p 5432"
        log = self._directory / "start.log"
        log.unlink(missing_ok=True)
        try:
            self._pg_ctl("start", "-l", str(log), "-o", options)
        except EmbeddedPostgresFailed as error:
            said = log.read_text(errors="replace").strip() if log.exists() else str(error)
            raise EmbeddedPostgresFailed(
                f"PostgreSQL does not start: {said[-1000:]} (more in {self._directory}/log)"
            ) from error

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._programs.run(
            self._account,
            "pg_ctl",
            *(action, "-D", str(self._directory), "-w", "-t", str(round(PATIENCE_S)), *arguments),
            timeout_s=PATIENCE_S + 10,
        )

    def _recorded(self) -> tuple[int | None, Path]:
        """Process and socket directory of the last server of this cluster, running or not."""
        pid, sockets = self._read_pid_file()
        return pid, sockets or self._socket_directory()

    def _read_pid_file(self) -> tuple[int | None, Path | None]:
        try:
            lines = (self._directory / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None, None
        # Line 5, once it has got that far (PostgreSQL, src/include/utils/pidfile.h).
        return pid, Path(lines[4]) if len(lines) > 4 and lines[4] else None

    def _ready(self, sockets: Path) -> bool:
        try:
            self._programs.run(self._account, "pg_isready", "-q", "-t", "5", "-h", str(sockets), "-p", "5432")
        except EmbeddedPostgresFailed:
            return False
        return True

    def _socket_directory(self) -> Path:
        """The cluster's own directory, or a short and plain one where its path will not do for a socket."""
        path = str(self._directory)
        if _PLAIN_PATH.fullmatch(path) and len(path) + 1 + len(_SOCKET) <= _SOCKET_PATH_MAX:
            return self._directory
        if self._account is not None:
            directory = public_directory(public_directory(self._shared_dir) / "run") / digest_of(
                self._directory
            )
        else:
            directory = Path(f"/tmp/freya-push-{os.geteuid()}-{digest_of(self._directory)}")  # noqa: S108 -- checked
        _make_private(directory, self._account)
        return directory


def initialise(directory: Path, programs: Programs, account: Account | None) -> None:
    """Make the cluster, all at once or not at all: a directory of that name is complete."""
    fresh = directory.with_name("pg.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if account is not None:
        os.chown(fresh, account.uid, account.gid)
    programs.run(
        account,
        "initdb",
        *("--pgdata", str(fresh), "--username", _USER, "--auth-local", "trust", "--auth-host", "reject"),
        *("--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions"),
        *(part for name, value in _SETTINGS.items() for part in ("--set", f"{name}={value}")),
        timeout_s=PATIENCE_S * 2,
    )
    fresh.rename(directory)


def made_with(directory: Path, programs: Sequence[Programs]) -> Programs:
    """The programs of the version that made the cluster: another cannot read it."""
    try:
        major = int((directory / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        raise EmbeddedPostgresFailed(f"{directory} is not a PostgreSQL cluster: remove it") from None
    for candidate in programs:
        if candidate.major == major:
            return candidate
    brought = ", ".join(str(candidate.major) for candidate in programs)
    raise EmbeddedPostgresFailed(
        f"{directory} was made by PostgreSQL {major}, and this installation brings {brought}: dump it with "
        "the release that made it, or set DATABASE_URL"
    )


def takes_path(directory: Path) -> bool:
    """Whether PostgreSQL's programs can work there."""
    return _TAKEN_PATH.fullmatch(str(directory)) is not None


def _dsn(sockets: Path) -> str:
    return f"postgresql://{_USER}@/postgres?host={quote(str(sockets), safe='')}&port=5432"


def digest_of(path: Path) -> str:
    """A short name for a path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _make_private(directory: Path, account: Account | None) -> None:
    """A directory for the owner alone. One that is there already may be anybody's, so it is looked at."""
    owner = os.geteuid() if account is None else account.uid
    try:
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, account.uid, account.gid)
    except FileExistsError:
        there = directory.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != owner or stat.S_IMODE(there.st_mode) != 0o700:
            raise EmbeddedPostgresFailed(f"{directory} is in the way: remove it") from None


def _works_in(pid: int, cluster: Path) -> bool:
    """Whether this process is a server of that cluster, and not one that came by its number later.

    Raises OSError where that can't be seen, which is no sign that it has gone: whoever took it for one would
    start a second server over the same files.
    """
    if sys.platform == "linux":
        process = Path(f"/proc/{pid}")
        try:
            # A postmaster and all its children work in the cluster's directory.
            return (process / "cwd").readlink() == cluster
        except (FileNotFoundError, ProcessLookupError):
            return False
        except PermissionError:
            # Of another account, and we may not look (a container without CAP_SYS_PTRACE): go by its name.
            return _name_of(process).startswith("postgres")
    command = ["/bin/ps", "-p", str(pid), "-o", "comm="]
    listed = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 -- a number
    return b"postgres" in listed.stdout


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
