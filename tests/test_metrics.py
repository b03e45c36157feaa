"""The metrics: declared once, named as Prometheus wants, and all of them in the docs."""

from __future__ import annotations

import re
from pathlib import Path

from server.loop_watch import LoopWatch
from server.metrics import CATALOGUE
from server.metrics_docs import render

ROOT = Path(__file__).parent.parent
FIGURES = [figure for _, figures in CATALOGUE for figure in figures]


def test_the_page_of_metrics_is_the_one_that_the_catalogue_writes() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page == render(), "run: python -m server.metrics_docs > docs/metrics.md"


def test_every_metric_has_its_own_name_and_says_what_it_means() -> None:
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    for figure in FIGURES:
        assert re.fullmatch(r"freya_[a-z_]+", figure.name)
        assert figure.help.endswith(".")
        assert not figure.name.endswith("_total"), "the kind says so already"
        assert figure.kind != "histogram" or figure.name.endswith("_seconds")


def test_a_loop_that_was_not_watched_was_never_late() -> None:
    seen = LoopWatch().statistics()
    assert sum(seen.lag.counts) == sum(seen.gc_pause.counts) == 0
