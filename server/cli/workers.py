"""freya serve --workers N: a supervisor, which serves nothing itself, and N servers on one port.

The workers share the port by SO_REUSEPORT; the kernel deals connections out among them. Each is a replica
of its own. One that dies is started again; what is asked of the supervisor by signals is passed on.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED, CancelScope, create_task_group
from anyio.abc import Process, TaskStatus

from server.cannot_start import CannotListen

if TYPE_CHECKING:
    from server.settings import Settings

__all__ = ["Workplace", "supervise"]

_READY: Final = b"ready"
_BACKOFF_S: Final = 0.5
_BACKOFF_MOST_S: Final = 10.0
_STEADY_S: Final = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a worker is told about where it stands."""

    slot: int
    line: int
    """File descriptor of a socket to the supervisor: the worker says there that it is ready, and its end
    means that the supervisor is gone."""
    folder: Path
    """Where workers meet."""

    @classmethod
    def parse(cls, text: str) -> Workplace:
        """The other way round of `str`."""
        slot, line, folder = text.split(":", 2)
        return cls(int(slot), int(line), Path(folder))

    def __str__(self) -> str:
        return f"{self.slot}:{self.line}:{self.folder}"

    async def follow(self, on_end: Callable[[], None]) -> None:
        """Says that this worker is ready; calls `on_end` once the supervisor has gone. Runs until then."""
        with socket.socket(fileno=self.line) as line:
            line.setblocking(False)
            line.send(_READY)
            await anyio.wait_readable(line)
        on_end()


async def supervise(settings: Settings, announce: Callable[[str, int], None]) -> int:
    """Runs the workers until a signal ends them; the exit code. `announce` is told the address once all are
    ready. A first worker that does not start ends it all, with that worker's exit code. Raises CannotListen.
    """
    listening = settings.listening
    with (
        anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        _reserved(listening.host, listening.port) as port,
        tempfile.TemporaryDirectory(prefix="freya-workers-") as folder,
    ):
        command = [sys.executable, "-m", "server", "serve", "--workers", str(listening.workers)]
        command += ["--host", listening.host, "--port", str(port)]
        command += ["--data-dir", str(settings.storage.data_dir)]
        workers = [_Worker(slot, command, Path(folder)) for slot in range(listening.workers)]
        return await _run(workers, signals, lambda: announce(listening.host, port))


async def _run(
    workers: list[_Worker], signals: AsyncIterator[signal.Signals], announce: Callable[[], None]
) -> int:
    code: int | None = None
    async with create_task_group() as group:
        group.start_soon(_heed, signals, workers)
        async with create_task_group() as crew:
            # One first: what is wrong with the settings or the database is then said once.
            code = await crew.start(workers[0].run)
            if code is None:
                async with create_task_group() as others:
                    for worker in workers[1:]:
                        others.start_soon(crew.start, worker.run)
                announce()
        group.cancel_scope.cancel()
    return code or 0


async def _heed(signals: AsyncIterator[signal.Signals], workers: list[_Worker]) -> None:
    async for number in signals:
        for worker in workers:
            worker.signal(signal.SIGHUP if number is signal.SIGHUP else signal.SIGTERM)


class _Worker:
    """One place among the workers, whichever process holds it."""

    def __init__(self, slot: int, command: list[str], folder: Path) -> None:
        self._slot = slot
        self._command = command
        self._folder = folder
        self._process: Process | None = None
        self._stopping = False
        self._pause = CancelScope()

    def signal(self, number: signal.Signals) -> None:
        """Passes it on. SIGTERM also means that whoever ends now is not started again."""
        if number is signal.SIGTERM:
            self._stopping = True
            self._pause.cancel()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def run(self, *, task_status: TaskStatus[int | None] = TASK_STATUS_IGNORED) -> None:
        """Keeps a process at work until it is told to stop. Says None once the first is ready, or the exit
        code of a first one that never was: then there is no second."""
        began_at = anyio.current_time()
        was_ready, code = await self._once(lambda: task_status.started(None))
        if not was_ready:
            task_status.started(0 if self._stopping else code or 1)
            return
        backoff_s = _BACKOFF_S
        while not self._stopping:
            lived_s = anyio.current_time() - began_at
            backoff_s = _BACKOFF_S if lived_s >= _STEADY_S else min(backoff_s * 2, _BACKOFF_MOST_S)
            _log.error("worker_died", worker=self._slot, code=code, restarts_in_s=backoff_s)
            with CancelScope() as self._pause:
                await anyio.sleep(backoff_s)
            if not self._stopping:
                began_at = anyio.current_time()
                _, code = await self._once(_nothing)

    async def _once(self, on_ready: Callable[[], None]) -> tuple[bool, int]:
        """One process from start to end; whether it ever was ready, and its exit code."""
        with ExitStack() as ends:
            near, far = socket.socketpair()
            ends.callback(near.close)
            near.setblocking(False)
            with far:
                place = Workplace(self._slot, far.fileno(), self._folder)
                # A session of its own: a Ctrl-C at the terminal is for the supervisor, which passes it on.
                process = self._process = await anyio.open_process(
                    [*self._command, "--worker", str(place)],
                    stdin=subprocess.DEVNULL,
                    stdout=None,
                    stderr=None,
                    pass_fds=(far.fileno(),),
                    start_new_session=True,
                )
            if self._stopping:
                process.terminate()
            try:
                await anyio.wait_readable(near)
                was_ready = near.recv(len(_READY)) == _READY
                if was_ready:
                    on_ready()
                return was_ready, await process.wait()
            finally:
                # Only where all this is cancelled: nobody is left who could wait for it.
                if process.returncode is None:
                    process.kill()
                with CancelScope(shield=True):
                    await process.wait()


def _nothing() -> None:
    """Nobody waits for a later process to be ready."""


@contextmanager
def _reserved(host: str, port: int) -> Generator[int]:
    """Holds the port, without listening, so that it is still there for a worker that comes later.

    Raises CannotListen where somebody else has it.
    """
    with ExitStack() as held:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                place = address[0], port or address[1]
                if place[1]:
                    _check_free(family, kind, protocol, place)
                sock = held.enter_context(socket.socket(family, kind, protocol))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(place)
                port = port or sock.getsockname()[1]
        except OSError as error:
            raise CannotListen(host, port, error) from error
        yield port


def _check_free(family: int, kind: int, protocol: int, place: tuple[object, object]) -> None:
    """Another server of ours would share its port with us: without SO_REUSEPORT the question is answered."""
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(place)
