"""A private PostgreSQL for who sets no DATABASE_URL: made, started, shared and stopped by those who use it.

The cluster is `DATA_DIR/pg`, without TCP; its Unix socket stands in a directory of mode 0700, which is the
lock: whoever gets in is trusted. Two files beside it hold the processes that use it together:

- `pg.lock`, held exclusively by who is just making, starting or stopping the cluster;
- `pg.users`, held shared by everyone for as long as they use it. Who leaves and can take it exclusively was
  the last, and stops the cluster.

The kernel drops both with the process, so a crash leaves a running cluster and no lock: the next start
adopts it. See `postgres_programs` for what is done where we are root.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

import anyio
from anyio import from_thread, to_thread

from storage.errors import EmbeddedPostgresFailed
from storage.postgres_programs import (
    Account,
    Programs,
    account_for,
    can_enter,
    find_programs,
    make_reachable,
    public_directory,
)

__all__ = ["SHARED_DIR", "EmbeddedPostgres"]

SHARED_DIR: Final = Path("/var/lib/freya-push")
_USER: Final = "freya"
_SOCKET: Final = ".s.PGSQL.5432"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing zero included.
_SOCKET_PATH_MAX: Final = 103
# What a socket directory may be made of, so that no list, quote or address that names it needs escaping.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
# `pg_ctl` puts the path between double quotes in a line for the shell.
_TAKEN_PATH = re.compile(r"""[^"$`\\\x00-\x1f]+""")
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.05
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


class EmbeddedPostgres:
    """`async with EmbeddedPostgres(data_dir) as dsn`: a running PostgreSQL for the length of the block.

    Several processes may use one data directory at once. `notices` says, once it has started, what people
    should know: where it runs as another user, and where its data is if not in the data directory. Raises
    EmbeddedPostgresFailed with what to do. A cancelled start leaves nothing running that nobody else uses.
    """

    def __init__(
        self, data_dir: Path, *, shared_dir: Path = SHARED_DIR, programs: Sequence[Path] | None = None
    ) -> None:
        """`shared_dir` takes what root's stand-in cannot reach where it is; `programs` are folders with
        PostgreSQL's programs instead of the wheel's."""
        self._data_dir = data_dir.absolute()
        self._shared_dir = shared_dir
        self._folders = programs
        self._cluster: _Cluster | None = None
        self._users: int | None = None
        self.notices: list[str] = []

    async def __aenter__(self) -> str:
        try:
            return await to_thread.run_sync(self._start)
        except BaseException:
            await self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._stop)

    def _start(self) -> str:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            with _exclusive(self._data_dir / "pg.lock"):
                self._users = _open_lock(self._data_dir / "pg.users")
                # Never waits: it is taken exclusively under `pg.lock` alone.
                fcntl.flock(self._users, fcntl.LOCK_SH | fcntl.LOCK_NB)
                self._cluster = self._place()
                return self._cluster.start()
        except OSError as error:
            hint = ": start as its owner, or choose another FREYA_DATA_DIR"
            raise EmbeddedPostgresFailed(
                f"the embedded PostgreSQL cannot use {error.filename or self._data_dir}: {error.strerror}"
                f"{hint if isinstance(error, PermissionError) else ''}"
            ) from error

    def _stop(self) -> None:
        users, self._users = self._users, None
        if users is None:
            return
        try:
            with _exclusive(self._data_dir / "pg.lock"):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                if self._cluster is not None:
                    self._cluster.stop()
        finally:
            os.close(users)

    def _place(self) -> _Cluster:
        """The cluster of this data directory, made if there is none yet."""
        name = self._data_dir / "pg"
        if name.is_symlink() and not name.exists():
            raise EmbeddedPostgresFailed(
                f"{name} leads to {name.readlink()}, which is gone: restore or remove it"
            )
        account = account_for(name)
        directory = name.resolve()
        if not can_enter(account, directory if name.exists() else self._data_dir):
            directory = self._elsewhere(name)
        if not _TAKEN_PATH.fullmatch(str(directory)):
            raise EmbeddedPostgresFailed(
                f"PostgreSQL's programs cannot take the path {directory}: choose another FREYA_DATA_DIR"
            )
        programs = find_programs(self._folders)
        if directory.exists():
            programs = [_made_with(directory, programs)]
        runnable = make_reachable(programs[0], account, self._shared_dir)
        if not directory.exists():
            _initialise(directory, runnable, account)
        if directory != name.resolve():
            name.symlink_to(directory)
        self._tell(account, directory)
        return _Cluster(directory, runnable, account, self._shared_dir)

    def _elsewhere(self, name: Path) -> Path:
        if name.exists():
            raise EmbeddedPostgresFailed(
                f"the account that {name} belongs to cannot reach it: choose another FREYA_DATA_DIR"
            )
        data = public_directory(public_directory(self._shared_dir) / "data")
        return public_directory(data / _digest(self._data_dir)) / "pg"

    def _tell(self, account: Account | None, directory: Path) -> None:
        if account is None:
            return
        notice = f"PostgreSQL does not run as root; it runs as {account.name}"
        if directory.parent != self._data_dir.resolve():
            notice += f", who cannot reach {self._data_dir}: its data is in {directory}"
        self.notices.append(notice)


class _Cluster:
    """A cluster that exists, and how to have it run. Every method wants `pg.lock`, and blocks."""

    def __init__(
        self, directory: Path, programs: Programs, account: Account | None, shared_dir: Path
    ) -> None:
        self._directory = directory
        self._programs = programs
        self._account = account
        self._shared_dir = shared_dir

    def start(self) -> str:
        """Adopt it if it runs, start it if not; its address once it answers."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            pid, sockets = self._recorded()
            if self._ready(sockets):
                return _dsn(sockets)
            if pid is None or not _works_in(pid, self._directory):
                self._launch(pid, sockets)
            if time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"PostgreSQL did not start within {_PATIENCE_S:g} s: see {self._directory}/log"
                )
            # Just started, or still recovering or stopping from before.
            _pause()

    def stop(self) -> None:
        pid, _ = self._recorded()
        if pid is not None and _works_in(pid, self._directory):
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
            *(action, "-D", str(self._directory), "-w", "-t", str(round(_PATIENCE_S)), *arguments),
            timeout_s=_PATIENCE_S + 10,
        )

    def _recorded(self) -> tuple[int | None, Path]:
        """Process and socket directory of the last server of this cluster, running or not."""
        try:
            lines = (self._directory / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None, self._socket_directory()
        # Line 5, once it has got that far (PostgreSQL, src/include/utils/pidfile.h).
        return pid, Path(lines[4]) if len(lines) > 4 and lines[4] else self._socket_directory()

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
            directory = public_directory(public_directory(self._shared_dir) / "run") / _digest(
                self._directory
            )
        else:
            directory = Path(f"/tmp/freya-push-{os.geteuid()}-{_digest(self._directory)}")  # noqa: S108 -- checked
        _make_private(directory, self._account)
        return directory


def _initialise(directory: Path, programs: Programs, account: Account | None) -> None:
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
        timeout_s=_PATIENCE_S * 2,
    )
    fresh.rename(directory)


def _made_with(directory: Path, programs: Sequence[Programs]) -> Programs:
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


def _dsn(sockets: Path) -> str:
    return f"postgresql://{_USER}@/postgres?host={quote(str(sockets), safe='')}&port=5432"


def _digest(path: Path) -> str:
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
    """Whether this process is a server of that cluster, and not one that came by its number later."""
    if sys.platform == "linux":
        try:
            # A postmaster and all its children work in the cluster's directory.
            return Path(f"/proc/{pid}/cwd").readlink() == cluster
        except OSError:
            return False
    command = ["/bin/ps", "-p", str(pid), "-o", "comm="]
    listed = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 -- a number
    return b"postgres" in listed.stdout


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _exclusive(path: Path) -> Generator[None]:
    """Alone among all processes for the length of the block. Waits for whoever is there, for a while."""
    lock = _open_lock(path)
    deadline = time.monotonic() + 2 * _PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresFailed(
                        f"another process has been holding {path} for too long"
                    ) from None
            _pause()
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _pause() -> None:
    """Wait a little; ends the thread's work where the task that waits for it was cancelled."""
    from_thread.check_cancelled()
    time.sleep(_POLL_S)
