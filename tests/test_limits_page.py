"""docs/limits.md names a setting, a figure and a test for every limit; each is there, and the test counts."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple, cast

from pydantic.fields import FieldInfo

from server.metrics import CATALOGUE
from server.settings import Connections, Feeds, Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "limits.md").read_text()

NO_LIMITS = {"FREYA_HEARTBEAT_MS", "FREYA_CONNECTION_MAX_AGE_S"}
"""Settings of connections that refuse nobody anything."""
LIMITS_ELSEWHERE = {
    "FREYA_ACCEPT_PER_S",
    "FREYA_MAX_SESSIONS",
    "FREYA_MEMORY_HIGH_MIB",
    "FREYA_SOURCES_PER_USER",
}


class Row(NamedTuple):
    """One line of the page's tables."""

    limit: str
    settings: str
    default: str
    meets: str
    counted: str
    tests: str


ROWS = [
    Row(*line.strip("| ").split(" | "))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| limit ", "| --- "))
]


def named(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_every_limit_that_is_a_setting_is_on_the_page() -> None:
    groups = (Connections, Feeds)
    limits = {f"FREYA_{name.upper()}" for group in groups for name in group.model_fields} - NO_LIMITS
    assert {name for row in ROWS for name in named(row.settings)} == limits | LIMITS_ELSEWHERE


def test_every_default_is_the_settings_own() -> None:
    for row in ROWS:
        defaults = [_shown(Settings.variables()[name]) for name in named(row.settings)]
        assert row.default == ", ".join(defaults), row.limit


def test_every_limit_is_counted_under_the_name_of_its_setting() -> None:
    metrics = {f"{figure.name}_total": figure for _, figures in CATALOGUE for figure in figures}
    for row in ROWS:
        metric, label, value = re.fullmatch(r'`(\w+)\{(\w+)="([^"]+)"\}`', row.counted).groups()  # pyright: ignore[reportOptionalMemberAccess] -- the failure to be seen
        assert label in metrics[metric].labels, row.limit
        if label == "limit":
            assert value == named(row.settings)[0].removeprefix("FREYA_").lower()


def test_every_limit_is_met_by_a_test_that_sees_it_counted() -> None:
    defined = _tests()
    for row in ROWS:
        for name in named(row.tests):
            assert name in defined, name
        value = row.counted.split('"')[1]
        if not value.startswith("-"):
            assert all(f'"{value}"' in defined[name] for name in named(row.tests)), row.limit


def _shown(info: FieldInfo) -> str:
    value: object = info.default
    if value == 0:
        return "off"
    number = f"{value:g}" if isinstance(value, float) else str(value)
    unit = cast("dict[str, str]", info.json_schema_extra)["unit"]
    return {"s": f"{number} s", "1/s": f"{number}/s"}.get(unit, number)


def _tests() -> dict[str, str]:
    """The source of every test by its name."""
    found: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        if "node_modules" in path.parts:
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[node.name] = ast.get_source_segment(text, node) or ""
    return found
