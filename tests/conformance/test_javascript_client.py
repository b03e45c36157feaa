from __future__ import annotations

import subprocess

from tests.conformance.vectors import HERE
from tests.support.programs import NODE


def test_the_javascript_client_agrees_with_every_vector() -> None:
    command = [NODE, "--test", "--test-reporter=tap", HERE / "vectors.test.mjs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0\n" not in done.stdout
