"""Sees to it that nothing outlives a test run, not even one that is killed.

The reaper is a small process of its own. The tests tell it over a pipe which processes and directories they
own; when the pipe closes, because the run is over or because it died, it ends and removes what is still
named.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Reaper"]

PATIENCE_S = 5.0


class Reaper:
    """The tests' end of the pipe. `close` waits until everything named is gone."""

    def __init__(self) -> None:
        # A session of its own: a Ctrl-C in the terminal must not end it before its work is done.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def kill(self, pid: int, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends the process with this signal when the run is over (and with SIGKILL if that is not enough)."""
        self._tell(f"kill {pid} {by.value}")

    def spare(self, pid: int) -> None:
        """Forgets a process that has ended by itself, before its number can belong to another."""
        self._tell(f"spare {pid} 0")

    def remove(self, directory: Path) -> None:
        """Removes the directory when the run is over and the processes have ended."""
        self._tell(f"remove 0 {directory}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def _main() -> None:
    processes: dict[int, int] = {}
    directories: list[str] = []
    for line in sys.stdin:
        order, pid, rest = line.rstrip("\n").split(" ", 2)
        if order == "kill":
            processes[int(pid)] = int(rest)
        elif order == "spare":
            processes.pop(int(pid), None)
        else:
            directories.append(rest)
    for pid, by in processes.items():
        _send(pid, by)
    for pid in processes:
        _wait(pid)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _send(pid: int, by: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGCONT)  # a stopped process hears nothing but SIGKILL
        os.kill(pid, by)


def _wait(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.02)
    _send(pid, signal.SIGKILL)


if __name__ == "__main__":
    _main()
