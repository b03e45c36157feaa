"""The load driver's command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from tests.load.claims import ClaimError, failed
from tests.load.report import page
from tests.load.scenarios import SCENARIOS, Options, Result
from tests.load.target import Place, own_server

__all__ = ["main"]

_BAR = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """0: what was claimed holds, and nothing was missing or wrong. 1: it is not so. 2: it makes no sense."""
    asked = _parser().parse_args(arguments)
    options = Options(
        connections=asked.connections,
        rate_per_s=asked.rate,
        seconds=asked.seconds,
        items=asked.items,
        text_bytes=asked.text_bytes,
        processes=asked.processes,
        ramp_per_s=asked.ramp,
        stalled=asked.stalled,
        warm=asked.warm,
        core=None if asked.unpinned else 1,
        progress=_progress if sys.stderr.isatty() else _no_progress,
    )
    with _place(asked) as place:
        result = SCENARIOS[asked.scenario](place, options)
    claims = ",".join(["missing=0", "faults=0", *asked.claims])
    try:
        wrong = failed(claims, result.figures)
    except ClaimError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _tell(asked, options, result, wrong)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--connections", type=int, default=1000, help="users, or dashboards (1000)")
    parser.add_argument("--rate", type=float, default=1.0, help="changes of each feed a second (1)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure (20)")
    parser.add_argument("--items", type=int, default=8, help="items of each feed (8)")
    parser.add_argument("--text-bytes", type=int, default=60, help="text in each item (60)")
    parser.add_argument("--processes", type=int, default=1, help="processes of the driver (1)")
    parser.add_argument("--ramp", type=float, default=0.0, help="connects a second (0: all at once)")
    parser.add_argument("--stalled", type=float, default=0.1, help="slow: who stops reading (0.1)")
    parser.add_argument(
        "--warm", choices=("cold", "sessions", "cursors"), default="cold", help="storm: what is left"
    )
    parser.add_argument("--url", help="ws://HOST:PORT of a server; without it, one of its own is started")
    parser.add_argument("--keys", help="the server's FREYA_JWT_KEYS (default: of the environment)")
    parser.add_argument("--pid", type=int, help="the server's process, to measure what it costs")
    parser.add_argument(
        "--unpinned", action="store_true", help="leave it to the system who runs on which core"
    )
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--html", type=Path, help="write a report with plots there")
    parser.add_argument(
        "--assert", dest="claims", action="append", default=[], help="'age_p99_ms<10,missing=0': else exit 1"
    )
    return parser


@contextmanager
def _place(asked: argparse.Namespace) -> Generator[Place]:
    if asked.url is None:
        with own_server() as place:
            yield place
        return
    url: str = asked.url
    keys = asked.keys or os.environ.get("FREYA_JWT_KEYS")
    where = urlsplit(url)
    if keys is None or where.hostname is None or where.port is None:
        raise SystemExit(
            "--url takes ws://HOST:PORT, and needs --keys (or FREYA_JWT_KEYS) to make tokens with"
        )
    yield Place(where.hostname, where.port, keys, asked.pid)


def _tell(asked: argparse.Namespace, options: Options, result: Result, wrong: Sequence[str]) -> None:
    shown: dict[str, Any] = {
        name: value for name, value in vars(options).items() if name not in {"progress", "core"}
    }
    if asked.json is not None:
        whole = {
            "scenario": asked.scenario,
            "options": shown,
            "figures": result.figures,
            "series": result.series,
            "problems": result.problems,
            "failed": list(wrong),
        }
        asked.json.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    if asked.html is not None:
        asked.html.write_text(page(asked.scenario, shown, result, wrong))
    width = max(len(name) for name in result.figures)
    lines = [f"{name:<{width}}  {value:g}" for name, value in sorted(result.figures.items())]
    lines += [f"problem: {text}" for text in result.problems]
    lines += [f"failed: {text}" for text in wrong]
    sys.stdout.write("\n".join(lines) + "\n")


def _progress(what: str, done: int, of: int) -> None:
    filled = min(_BAR, _BAR * done // max(1, of))
    sys.stderr.write(f"\r{what:<10} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{of} ")
    sys.stderr.flush()


def _no_progress(what: str, done: int, of: int) -> None:
    """Nobody looks."""


if __name__ == "__main__":
    sys.exit(main())
