"""docs/security.md names a test for every attempt, and each of those tests and settings is there."""

from __future__ import annotations

import re
from pathlib import Path

from server.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text()
_ATTEMPTS = PAGE[PAGE.index("## Attempts at the door") : PAGE.index("## Fuzzing")]


def test_every_attempt_has_an_outcome_and_names_a_test() -> None:
    rows = [line.strip("| ").split(" | ") for line in _ATTEMPTS.splitlines() if line.startswith("| ")]
    attempts = [row for row in rows if row[0] not in {"attempt", "---"}]
    assert len(attempts) > 50
    assert [row for row in attempts if len(row) != 3 or not re.search(r"`test_\w+`$", row[2])] == []


def test_every_test_that_is_named_exists() -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert sorted(set(re.findall(r"`(test_\w+)`", PAGE)) - defined) == []


def test_every_setting_and_page_that_is_named_exists() -> None:
    assert set(re.findall(r"\bFREYA_\w+", PAGE)) <= Settings.variables().keys()
    for page in re.findall(r"\]\(([\w.]+)\)", PAGE):
        assert (ROOT / "docs" / page).is_file()
