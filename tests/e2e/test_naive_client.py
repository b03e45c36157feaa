from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.e2e.conftest import token
from tests.support.programs import ROOT, Program, bare_environment, running, serving

PAGE = ROOT / "docs" / "protocol.md"


def naive_client() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_client_in_the_docs_is_as_short_as_it_says() -> None:
    assert len([line for line in naive_client().splitlines() if line.strip()]) <= 20


def test_the_client_in_the_docs_shows_the_feed_and_comes_back(data_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "naive.py"
    script.write_text(naive_client())
    made = token(data_dir, "alice")
    with serving("--data-dir", str(data_dir)) as server:
        place = server.place
        naive = Program([sys.executable, str(script), server.url, made], bare_environment(), ROOT)
        try:
            naive.wait_line("freya.clock/greeting")
            with running(
                "publish", "alice", "--title", "Hello", "--url", server.url, settings=_settings(data_dir)
            ) as cli:
                assert cli.wait_end() == 0
            naive.wait_line("Hello")
            server.end()
            seen = len(naive.lines)
            with serving("--data-dir", str(data_dir), "--port", place.rpartition(":")[2]):
                naive.wait_line("Hello", after=seen)
        finally:
            naive.close()


def _settings(data_dir: Path) -> dict[str, str]:
    return {"FREYA_DATA_DIR": str(data_dir)}
