"""What the tests take from npm: pinned beside the tests that need it, fetched once, and done without where it
is not to be had."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import NODE, ROOT

__all__ = ["npm_modules"]

_PATIENCE_S = 100.0


def npm_modules(folder: Path) -> Path:
    """`node_modules` of a folder, as its package-lock.json has it. One process fetches, others wait.

    Skips the test, saying why, where there is no npm or it can't fetch them.
    """
    modules = folder / "node_modules"
    lock = folder / "package-lock.json"
    turns = ROOT / ".pytest_cache"
    turns.mkdir(exist_ok=True)
    with (turns / f"npm-{folder.name}").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        done = modules / ".installed"
        if not done.exists() or done.read_bytes() != lock.read_bytes():
            _install(folder)
            shutil.copy(lock, done)
    return modules


def _install(folder: Path) -> None:
    npm = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not npm.exists():
        pytest.skip(f"NO NPM: {folder.name} goes unchecked, there is none beside {NODE}")
    command = [NODE, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    environment = {**os.environ, "PATH": f"{NODE.parent}:{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"NPM DOES NOT ANSWER: {folder.name} goes unchecked")
    if done.returncode:
        pytest.skip(f"NPM CAN'T FETCH what {folder.name} needs: {done.stderr.strip()[-300:]}")
