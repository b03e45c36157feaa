"""Every figure of docs/performance.md, each beside what it is compared with, in one run.

    python -m tests.bench [NAME...] [--quick] [--json FILE] [--markdown FILE]
    python -m tests.bench growth --plots docs/growth

The machine is shared and noisy: what is compared runs in turns, and the ratio of each turn counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import orjson

from tests.bench.compared import fan_out, own_feeds
from tests.bench.growth import growth
from tests.bench.held import age, idle, slow, storm
from tests.bench.size import Size
from tests.bench.table import Table, machine

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: Final[dict[str, Callable[[Table, Size], None]]] = {
    "fan-out": fan_out,
    "own-feeds": own_feeds,
    "idle": idle,
    "storm": storm,
    "slow": slow,
    "age": age,
    "growth": growth,
}
_ONLY_BY_NAME: Final = {"growth"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks that are named, or all. 0, unless one of them could not be run to its end, or what
    clients received was wrong (1); a target that is missed is told, and no failure."""
    asked = _parser().parse_args(arguments)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    table = Table()
    table.note(f"Before: {machine()}.")
    names: list[str] = asked.names or [name for name in BENCHMARKS if name not in _ONLY_BY_NAME]
    failed = [name for name in names if not _run(name, table, asked.quick)]
    table.note(f"After: {machine()}.")
    sys.stdout.write("\n" + table.markdown())
    if asked.markdown is not None:
        asked.markdown.write_text(table.markdown())
    if asked.json is not None:
        asked.json.write_bytes(orjson.dumps(table.wire(), option=orjson.OPT_INDENT_2))
    if asked.plots is not None:
        asked.plots.mkdir(parents=True, exist_ok=True)
        for name, svg in table.plots.items():
            (asked.plots / f"{name}.svg").write_text(svg)
    return 1 if failed else 0


def _run(name: str, table: Table, quick: bool) -> bool:
    """Whether it came to its end. One that does not keeps nobody from the others' figures."""
    began = monotonic()
    sys.stdout.write(f"\n{name}: {BENCHMARKS[name].__doc__}\n")
    try:
        BENCHMARKS[name](table, Size.quick() if quick else Size())
    except (AssertionError, OSError, RuntimeError) as problem:
        sys.stderr.write(f"{problem}\n")
        table.note(f"{name} failed: {type(problem).__name__}: {str(problem).partition(chr(10))[0]}")
        return False
    sys.stdout.write(f"  ({monotonic() - began:.0f} s)\n")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plots", type=Path, help="write the plots into that folder")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
