"""What docs/ gives to operators to watch with names only metrics and labels that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import orjson
import pytest
import yaml

from protocol.frozen import JsonValue
from server.metrics import CATALOGUE
from server.settings import Settings

_DOCS = Path(__file__).parent.parent / "docs"
_OF_THE_PROCESS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}
_FIGURES = {figure.name: figure for _, figures in CATALOGUE for figure in figures}
_LABELS_OF_PROMETHEUS = {"instance", "job", "le"}


def _exposed() -> dict[str, set[str]]:
    """Every series by name, as a scrape has it, with its labels."""
    names: dict[str, set[str]] = {name: set() for name in _OF_THE_PROCESS}
    for figure in _FIGURES.values():
        endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[
            figure.kind
        ]
        names |= {f"{figure.name}{ending}": set(figure.labels) for ending in endings}
    return names


def _rules() -> list[Mapping[str, JsonValue]]:
    parsed = yaml.safe_load((_DOCS / "alerts.yml").read_text())
    return [rule for group in parsed["groups"] for rule in group["rules"]]


def _values(value: JsonValue, key: str) -> Iterator[str]:
    """Every text that is under that key, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            yield from _values(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)


_ALERTS = [str(rule["expr"]) for rule in _rules()]
_PANELS = list(_values(cast("JsonValue", orjson.loads((_DOCS / "grafana.json").read_bytes())), "expr"))


@pytest.mark.parametrize("expression", [*_ALERTS, *_PANELS])
def test_an_expression_names_only_metrics_and_labels_that_there_are(expression: str) -> None:
    exposed = _exposed()
    used = set(re.findall(r"\b(?:freya|process)_\w+", expression))
    assert used
    assert used <= exposed.keys()
    grouped = {
        label.strip() for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(",")
    }
    matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    for label in (grouped | matched) - _LABELS_OF_PROMETHEUS:
        assert any(label in exposed[name] for name in used), f"no {label} in {expression}"
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("expression", [*_ALERTS, *_PANELS])
def test_only_counters_and_histograms_have_a_rate(expression: str) -> None:
    for name in re.findall(r"(?:rate|increase)\((\w+)", expression):
        assert name.endswith(("_total", "_bucket", "_count", "_sum"))
    assert "histogram_quantile" not in expression or "_bucket" in expression


def test_the_dashboard_shows_every_histogram_and_places_no_panel_twice() -> None:
    shown = " ".join(_PANELS)
    histograms = [
        name for name, figure in _FIGURES.items() if figure.kind == "histogram" and "llm" not in name
    ]
    assert [name for name in histograms if name not in shown] == []
    panels = orjson.loads((_DOCS / "grafana.json").read_bytes())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})


def test_every_alert_says_how_urgent_it_is_and_what_it_means() -> None:
    names = [rule["alert"] for rule in _rules()]
    assert len(set(names)) == len(names) > 10
    for rule in _rules():
        labels, notes = rule["labels"], rule["annotations"]
        assert isinstance(labels, Mapping)
        assert isinstance(notes, Mapping)
        assert labels["severity"] in {"page", "ticket"}
        assert notes.keys() == {"summary", "description"}


def test_what_an_alert_advises_to_change_or_to_look_at_exists() -> None:
    text = (_DOCS / "alerts.yml").read_text()
    assert set(re.findall(r"\bFREYA_\w+", text)) <= Settings.variables().keys()
    names = set(re.findall(r"\bfreya_\w+", text))
    assert names - _exposed().keys() == set()
