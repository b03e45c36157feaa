from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, subprocess, sys
from pathlib import Path
from tests.support.reaper import Reaper

reaper = Reaper()
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
reaper.kill(child.pid, signal.SIGTERM)
reaper.remove(Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_leaves_behind_is_ended_and_removed(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    (left / "file").write_text("content")
    root = Path(__file__).parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(left)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    # The child and the reaper hold the other end of this pipe: it closes when both are gone.
    output, _ = run.communicate(timeout=30)
    assert output in (b"", b"up\n")
    assert run.returncode == -9
    assert not left.exists()
