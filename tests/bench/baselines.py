"""The servers to compare with: the bare loop in Python, and one in C where there is a compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from server.tokens import generate
from tests.load.target import Place, pin
from tests.support.programs import ROOT, bare_environment

__all__ = ["bare_loop", "c_loop", "compiler"]


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


@contextmanager
def bare_loop(*arguments: str, core: int = 0) -> Generator[Place]:
    """`tests.bench.bare` as a process."""
    with _running([sys.executable, "-m", "tests.bench.bare", *arguments], core) as place:
        yield place


@contextmanager
def c_loop(*arguments: str, core: int = 0) -> Generator[Place]:
    """`floor.c`, compiled for the occasion."""
    made = compiler()
    assert made is not None, "there is no C compiler"
    with tempfile.TemporaryDirectory(prefix="freya-bench-") as folder:
        program = Path(folder) / "floor"
        source = Path(__file__).with_name("floor.c")
        subprocess.run([made, "-O2", "-o", str(program), str(source)], check=True)
        with _running([str(program), *arguments], core) as place:
            yield place


@contextmanager
def _running(command: Sequence[str], core: int) -> Generator[Place]:
    process = subprocess.Popen(command, cwd=ROOT, env=bare_environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        pin(process.pid, core)
        yield Place("127.0.0.1", port, generate("HS256", "bench"), process.pid)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
