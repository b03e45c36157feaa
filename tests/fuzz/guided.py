"""The same properties, with rubbish that is bred by the code it reaches: libFuzzer, by way of atheris.

It takes over its process, so it has one of its own: `guided` starts it, `python -m tests.fuzz.guided` is it.
What it finds is printed, with its bytes, and kept in .pytest_cache/fuzz.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from tests.support.programs import ROOT, bare_environment

__all__ = ["guided", "is_installed"]

_KEPT = ROOT / ".pytest_cache" / "fuzz"
_MAX_BYTES = 4096
_WATCHED = ["protocol.jsonrpc", "protocol.frozen", "server.push.inbound", "websockets"]


def is_installed() -> bool:
    """Whether there is an atheris for this Python."""
    return find_spec("atheris") is not None


def guided(seconds: float, seed: int) -> int:
    """Runs for so long; the exit code, which is 0 where nothing was found."""
    command = [sys.executable, "-m", "tests.fuzz.guided", str(max(1, round(seconds))), str(seed % 2**31 or 1)]
    # Its instrumented imports make warnings of their own.
    environment = bare_environment() | {"PYTHONWARNINGS": "default"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _sow(folder: Path, rubbish: Any) -> None:
    """What it breeds from: messages, and frames of all kinds. The first byte says how the rest is read."""
    for number, seed in enumerate(rubbish.SEEDS):
        (folder / f"message-{number}").write_bytes(b"\0" + seed)
    for number in range(64):
        (folder / f"frames-{number}").write_bytes(bytes([1 + number % 2]) + rubbish.frames(Random(number)))


def _main(seconds: str, seed: str) -> None:
    atheris: Any = import_module("atheris")
    # Nothing of ours may have been imported before: what has been is not watched.
    with atheris.instrument_imports(include=_WATCHED):
        targets: Any = import_module("tests.fuzz.targets")
        rubbish: Any = import_module("tests.fuzz.rubbish")

    def one(data: bytes) -> None:
        how, rest = data[:1], data[1:]
        if how in (b"", b"\0"):
            targets.read_message(rest)
        else:
            targets.parse_frames(rest, Random(len(rest)), deflate=how == b"\2")

    _KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="freya-fuzz-") as folder:
        _sow(Path(folder), rubbish)
        limits = [f"-max_total_time={seconds}", f"-max_len={_MAX_BYTES}", f"-seed={seed}", "-timeout=10"]
        atheris.Setup(
            [sys.argv[0], *limits, f"-artifact_prefix={_KEPT}/", "-print_final_stats=1", folder], one
        )
        atheris.Fuzz()


if __name__ == "__main__":
    _main(*sys.argv[1:])
