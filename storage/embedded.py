"""A private PostgreSQL for who sets no DATABASE_URL: made, started, shared and stopped by those who use it.

The cluster is `DATA_DIR/pg`, without TCP; its Unix socket stands in a directory of mode 0700, which is the
lock: whoever gets in is trusted. Two files beside it hold the processes that use it together:

- `pg.lock`, held exclusively by who is just making, starting or stopping the cluster;
- `pg.users`, held shared by everyone for as long as they use it. Who leaves and can take it exclusively was
  the last, and stops the cluster.

The kernel drops both with the process, so a crash leaves a running cluster and no lock: the next start
adopts it. The cluster itself is in `cluster`, what is done where we are root in `postgres_programs`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

import anyio
from anyio import from_thread, to_thread

from storage.cluster import PATIENCE_S, Cluster, digest_of, initialise, made_with, takes_path
from storage.errors import EmbeddedPostgresFailed
from storage.postgres_programs import (
    Account,
    account_for,
    can_enter,
    find_programs,
    make_reachable,
    public_directory,
)
from storage.restarts import Incident, Restarts

__all__ = ["SHARED_DIR", "EmbeddedPostgres"]

SHARED_DIR: Final = Path("/var/lib/freya-push")
_POLL_S: Final = 0.05
_LOOK_S: Final = 0.5  # how often a main process that has died is looked for


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
        self._cluster: Cluster | None = None
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

    async def keep_running(self, tell: Callable[[Incident], None]) -> None:
        """Starts PostgreSQL again where its main process has died, with growing pauses (see `restarts`).
        Runs until cancelled.

        `tell` is told of each turn. Several processes that share the cluster may all do this: one of them
        starts it, the others find it running.
        """
        restarts = Restarts()
        while True:
            await anyio.sleep(_LOOK_S)
            if not await to_thread.run_sync(self._has_died):
                continue
            tell(Incident("gone", restarts.attempts))
            await anyio.sleep(restarts.went(anyio.current_time()))
            try:
                await to_thread.run_sync(self._restart)
            except EmbeddedPostgresFailed as failure:
                tell(Incident("failed", restarts.attempts, str(failure)))
            else:
                restarts.came_back(anyio.current_time())
                tell(Incident("back", restarts.attempts))

    def _has_died(self) -> bool:
        assert self._cluster is not None, "it has not been started yet"
        try:
            return not self._cluster.running
        except OSError:
            # Not to be seen now, for want of file descriptors say: that is for the next look.
            return False

    def _restart(self) -> None:
        # The address stays: it follows from the directory.
        assert self._cluster is not None, "it has not been started yet"
        try:
            with _exclusive(self._data_dir / "pg.lock"):
                self._cluster.start(_pause)
        except OSError as error:
            raise EmbeddedPostgresFailed(f"{error.filename or self._data_dir}: {error.strerror}") from error

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
                return self._cluster.start(_pause)
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

    def _place(self) -> Cluster:
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
            account = account_for(directory)
        if not takes_path(directory):
            raise EmbeddedPostgresFailed(
                f"PostgreSQL's programs cannot take the path {directory}: choose another FREYA_DATA_DIR"
            )
        programs = find_programs(self._folders)
        if directory.exists():
            programs = [made_with(directory, programs)]
        runnable = make_reachable(programs[0], account, self._shared_dir)
        if not directory.exists():
            initialise(directory, runnable, account)
        if directory != name.resolve():
            name.symlink_to(directory)
        self._tell(account, directory)
        return Cluster(directory, runnable, account, self._shared_dir)

    def _elsewhere(self, name: Path) -> Path:
        if name.exists():
            raise EmbeddedPostgresFailed(
                f"the account that {name} belongs to cannot reach it: choose another FREYA_DATA_DIR"
            )
        data = public_directory(public_directory(self._shared_dir) / "data")
        return public_directory(data / digest_of(self._data_dir)) / "pg"

    def _tell(self, account: Account | None, directory: Path) -> None:
        if account is None:
            return
        notice = f"PostgreSQL does not run as root; it runs as {account.name}"
        if directory.parent != self._data_dir.resolve():
            notice += f", who cannot reach {self._data_dir}: its data is in {directory}"
        self.notices.append(notice)


@contextmanager
def _exclusive(path: Path) -> Generator[None]:
    """Alone among all processes for the length of the block. Waits for whoever is there, for a while."""
    lock = _open_lock(path)
    deadline = time.monotonic() + 2 * PATIENCE_S
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
