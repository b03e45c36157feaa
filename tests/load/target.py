"""The server under load: one of our own with its own PostgreSQL, or one that is there; and what it costs."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from server.tokens import generate
from tests.support.programs import serving

__all__ = ["Cost", "Place", "Watch", "cost_of", "own_server", "pin", "pin_database", "sibling"]

_EVERY_S = 0.25
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Place:
    """A server: where it is, the keys its tokens are signed with, and its process where that is known."""

    host: str
    port: int
    keys: str
    pid: int | None
    data_dir: Path | None = None
    """Where a server of our own keeps its database."""


@dataclass(frozen=True)
class Cost:
    """What a process has used until a moment."""

    at: float
    cpu_s: float
    """Both kinds of CPU time, to the nanosecond."""
    user_s: float
    """Of it in user space, as the kernel samples it: to a hundredth of a second, give or take."""
    system_s: float
    rss: int

    def user_share(self, before: Cost) -> float:
        """How much of the CPU time since `before` was spent in user space, from 0 to 1."""
        user_s, system_s = self.user_s - before.user_s, self.system_s - before.system_s
        return user_s / (user_s + system_s) if user_s + system_s else 0.0


def cost_of(pid: int) -> Cost:
    """What a process has used until now."""
    # The name in the second field may hold anything; it ends with the last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    user, system = int(fields[11]) / _TICKS_PER_S, int(fields[12]) / _TICKS_PER_S
    return Cost(time.time(), time.clock_gettime(_cpu_clock(pid)), user, system, pages * _PAGE)


def _cpu_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) would say on Linux: /proc counts in hundredths of a second."""
    return (~pid << 3) | 2


def pin(pid: int, core: int) -> None:
    """Keeps a process (its first thread) to one core, where there are several."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


def pin_database(data_dir: Path, core: int) -> None:
    """Keeps the PostgreSQL of a server of our own to one core: what it is at, and what it begins later."""
    for recorded in data_dir.rglob("postmaster.pid"):
        postmaster = recorded.read_text().splitlines()[0]
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in (postmaster, *children):
            with suppress(ProcessLookupError):  # one that has done its work meanwhile
                pin(int(process), core)


class Watch:
    """Looks at a process four times a second."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.costs = [cost_of(pid)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                self.costs.append(cost_of(self.pid))
            except OSError:
                return  # it is gone: a drain


@contextmanager
def own_server(settings: Mapping[str, str] | None = None, *, core: int = 0) -> Generator[Place]:
    """A server with a new database of its own, on one core."""
    folder = Path(tempfile.mkdtemp(prefix="freya-load-"))
    folder.chmod(0o711)
    try:
        with _server(generate("HS256", "load"), folder / "data", settings, core) as place:
            yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sibling(place: Place, settings: Mapping[str, str] | None = None, *, core: int = 0) -> Generator[Place]:
    """A second server on the same database, which has no session of anybody yet."""
    assert place.data_dir is not None, "only a server of our own can have one"
    with _server(place.keys, place.data_dir, settings, core) as other:
        yield other


@contextmanager
def _server(keys: str, data_dir: Path, settings: Mapping[str, str] | None, core: int) -> Generator[Place]:
    ours = {
        "FREYA_SYNTHETIC": "1",
        "FREYA_JWT_KEYS": keys,
        "FREYA_LOG_LEVEL": "warning",
        "FREYA_MAX_SESSIONS": "100000",
        "FREYA_MAX_CONNECTIONS": "100000",
        **(settings or {}),
    }
    with serving("--data-dir", str(data_dir), settings=ours) as server:
        host, _, port = server.place.rpartition(":")
        pin(server.process.pid, core)
        # With the driver: what the store uses is not the server's, and must not take it off its core.
        pin_database(data_dir, 1 - core)
        try:
            yield Place(host, int(port), keys, server.process.pid, data_dir)
        finally:
            if server.process.poll() is None:
                server.end()  # in order: a killed server would leave its PostgreSQL behind
