"""`docs/metrics.md`, written from the catalogue of metrics: python -m server.metrics_docs > FILE."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Never

from server.metrics import CATALOGUE, Figure

__all__ = ["render"]

_INTRODUCTION = """\
# Metrics

`/metrics` answers in Prometheus' text format. Counters count since the process began; a histogram comes as
`_bucket`, `_sum` and `_count`. Beside these there are the usual ones of the process (`process_*`), of Python
and of its garbage collector (`python_*`).

This page is generated from `server/metrics.py`.
"""


def render() -> str:
    """The whole page."""
    sections = [f"\n## {title}\n\n{_table(figures)}" for title, figures in CATALOGUE]
    return _INTRODUCTION + "".join(sections)


def _table(figures: Sequence[Figure[Never]]) -> str:
    rows = "".join(_row(figure) for figure in figures)
    return f"| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n{rows}"


def _row(figure: Figure[Never]) -> str:
    name = f"{figure.name}_total" if figure.kind == "counter" else figure.name
    labels = ", ".join(f"`{label}`" for label in figure.labels)
    return f"| `{name}` | {figure.kind} | {labels} | {figure.help} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
