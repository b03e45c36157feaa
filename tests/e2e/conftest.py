"""A data directory of its own for each test, and tokens made with its keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import ROOT, bare_environment


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below pytest's own directory: where the tests run as root, PostgreSQL's stand-in can't go there."""
    folder = Path(tempfile.mkdtemp(prefix="freya-e2e-"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


def token(data_dir: Path, *arguments: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "server", "token", *arguments],
        cwd=ROOT,
        env=bare_environment({"FREYA_DATA_DIR": str(data_dir)}),
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()
