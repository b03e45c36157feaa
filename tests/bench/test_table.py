"""The table of figures: what is met, and how it is told."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import BENCHMARKS, main
from tests.bench.size import Size
from tests.bench.table import Row, Table, at_least, at_most


@pytest.mark.parametrize(
    ("wanted", "found", "met"),
    [
        (at_most(1.2), 1.2, True),
        (at_most(1.2), 1.21, False),
        (at_least(4000), 4000, True),
        (at_least(4000), 3999.9, False),
        (None, 1.0, None),
    ],
)
def test_a_target_is_met_or_not(wanted: tuple[str, float] | None, found: float, met: bool | None) -> None:
    assert Row("of", "name", found, "us", wanted).met is met


def test_the_table_is_markdown_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.tell("fan-out", "ratio", 1.114, "", at_most(1.2))
    table.tell("storm", "users let in", 5123.4, "1/s")
    table.note("It was quiet.")
    assert table.markdown().splitlines() == [
        "| of | what | found | wanted | met |",
        "| --- | --- | --- | --- | --- |",
        "| fan-out | ratio | 1.11 | at most 1.2 | yes |",
        "| storm | users let in | 5,123 1/s |  |  |",
        "",
        "- It was quiet.",
    ]
    assert [row["met"] for row in table.wire()["rows"]] == [True, None]
    assert "at most 1.2" in capsys.readouterr().out


def test_a_quick_run_is_smaller_but_never_nothing() -> None:
    quick = Size.quick()
    assert (quick.of(10_000), quick.of(10), quick.of(1000, least=500)) == (1000, 20, 500)
    assert (quick.s(60), quick.s(1)) == (9.0, 2.0)
    assert (Size().of(1000), Size().s(5)) == (1000, 5)


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    said = capsys.readouterr().err
    assert [name for name in BENCHMARKS if name not in said] == []
