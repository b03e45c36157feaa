"""The JavaScript client: its own tests in node's runner, its declarations, and a real server to follow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.npm import npm_modules
from tests.support.programs import NODE, bare_environment, serving

HERE = Path(__file__).parent


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below pytest's own directory: where the tests run as root, PostgreSQL's stand-in can't go there."""
    folder = Path(tempfile.mkdtemp(prefix="freya-js-"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_the_client_does_what_its_tests_in_node_say(name: str) -> None:
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", HERE / name], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0\n" not in done.stdout


def test_the_type_declarations_compile_and_hold_for_who_uses_them() -> None:
    tsc = npm_modules(HERE) / "typescript" / "bin" / "tsc"
    done = subprocess.run([NODE, tsc, "--project", HERE], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout


def test_it_resumes_with_a_real_server_over_a_restart_and_a_hidden_page(data_dir: Path) -> None:
    """The steps are in `live.mjs`; it asks for a restart and for words of the server line by line."""
    # Sources are waited for, however slow the machine: the feed is then what it was.
    settings = {"FREYA_DATA_DIR": str(data_dir), "FREYA_RESUME_WAIT_S": "10"}
    with serving(settings=settings) as server:
        port = server.place.split(":")[1]
        client = subprocess.Popen(
            [NODE, HERE / "live.mjs", server.url, _token(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "ready for a restart\n"
            assert server.end() == 0
            with serving("--port", port, settings=settings):
                client.stdin.write("restarted\n")
                client.stdin.flush()
                said = client.stdout.read()
                assert client.wait(60) == 0
        finally:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()
    assert json.loads(said) == {
        "before": "live",
        "closedWith": 1001,
        "sameItemObjects": True,
        "afterHidden": "live",
        "frameAfterHidden": "feed.delta",
        "reminder": "Water the plants",
        "sources": True,
    }


def _token(settings: dict[str, str]) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "server", "token", "alice"],
        env=bare_environment(settings),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return made.stdout.strip()
