"""The example of a third party's source: packaged, installed, found, and shown, without any network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "freya-push-quotes"

FIND = """
from server.sources.builtin import builtin_providers
from server.sources.registry import ProviderRegistry
from server.sources.services import SourceOptions
registry = ProviderRegistry.with_plugins(builtin_providers(SourceOptions()))
print(registry.broken, [name for name in registry.order if not name.startswith("freya.")])
"""


def run(*command: str, path: Path, cwd: Path) -> str:
    paths = os.pathsep.join([str(path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's wheel in it, as an installer would unpack it."""
    work = tmp_path_factory.mktemp("example")
    copy = shutil.copytree(EXAMPLE, work / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import hatchling.build as backend; print(backend.build_wheel('..'))"
    wheel = work / run("-c", build, path=work, cwd=copy).splitlines()[-1]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "site")
    return work / "site"


def test_a_server_finds_the_example_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    assert run("-c", FIND, path=installed, cwd=tmp_path) == "() ['com.example.quotes']"


def test_the_example_s_own_test_passes(installed: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(
        EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__")
    )
    said = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), path=installed, cwd=tmp_path)
    assert "4 passed" in said
