"""Builds the fan-out's loop in C, where there is a compiler.

    python -m server.build_native FILE

Nothing depends on it: a server uses it where FREYA_NATIVE_FANOUT names the file, and else does the same in
Python.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["NoCompiler", "build", "compiler", "main"]

_SOURCE: Final = Path(__file__).parent / "push" / "fanout_loop.c"


class NoCompiler(Exception):
    """There is no C compiler, or it failed; says which."""


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def build(target: Path) -> None:
    """Compiles the loop for this very Python. Raises NoCompiler."""
    made = compiler()
    if made is None:
        raise NoCompiler("there is no C compiler (cc, gcc, clang)")
    target.parent.mkdir(parents=True, exist_ok=True)
    link = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    include = f"-I{sysconfig.get_paths()['include']}"
    command = [made, "-O2", "-Wall", "-fPIC", *link, include, "-o", str(target), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
    if done.returncode:
        raise NoCompiler(f"{made} failed:\n{done.stderr}")


def main(arguments: Sequence[str]) -> int:
    """0: built. 1: there is no compiler, or it failed; nothing depends on it."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m server.build_native FILE\n")
        return 2
    try:
        build(Path(arguments[0]))
    except NoCompiler as why:
        sys.stderr.write(f"not built: {why}\n")
        return 1
    sys.stdout.write(f"built: FREYA_NATIVE_FANOUT={Path(arguments[0]).resolve()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
