"""The siege in a short form: every attack is made, and the bystander is still there in the end."""

from __future__ import annotations

import subprocess
import sys

from tests.attack.siege import ATTACKS
from tests.support.programs import ROOT


def test_whatever_attack_is_made_a_bystander_is_answered_until_the_end() -> None:
    command = [sys.executable, "-m", "tests.attack", "--seconds", "0.3", "--messages", "5000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    sent = {row[1].strip(): row[2].strip().replace(",", "") for row in rows[2:]}
    assert set(ATTACKS) <= set(sent), done.stderr
    assert all(int(sent[name]) > 0 for name in ATTACKS)
    assert "none, afterwards" in sent
    # How long it took is the machine's own: only `make siege` judges that.
    assert "memory:" in done.stdout
