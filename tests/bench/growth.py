"""How the cost of an update grows: with users, with sockets at one feed, with items, with their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.bench.held import check
from tests.bench.size import Size
from tests.bench.table import Table
from tests.load.report import plot
from tests.load.scenarios import SCENARIOS, Options
from tests.load.target import own_server

__all__ = ["growth"]


@dataclass(frozen=True)
class _Axis:
    """One thing that grows while everything else stays: where, how it is set, and to what."""

    of: str
    scenario: str
    unit: str
    options: Options
    at: Callable[[Options, int], Options]
    steps: Sequence[int]


_USUAL: Final = Options(connections=300, rate_per_s=2.0, seconds=6.0)
_AXES: Final = (
    _Axis(
        "users",
        "steady",
        "users",
        _USUAL,
        lambda usual, n: replace(usual, connections=n),
        (100, 300, 1000, 2000),
    ),
    _Axis(
        "sockets",
        "fanout",
        "sockets at one feed",
        replace(_USUAL, rate_per_s=10.0),
        lambda usual, n: replace(usual, connections=n),
        (1, 4, 16, 64, 250, 1000),
    ),
    _Axis(
        "items",
        "steady",
        "items of each feed",
        _USUAL,
        lambda usual, n: replace(usual, items=n),
        (1, 8, 32, 128),
    ),
    _Axis(
        "bytes",
        "steady",
        "bytes of text in each item",
        _USUAL,
        lambda usual, n: replace(usual, text_bytes=n),
        (10, 100, 1000, 4000),
    ),
)


def growth(table: Table, size: Size) -> None:
    """CPU of the server for each delivery, as one thing after another grows."""
    for axis in _AXES:
        total: list[tuple[float, float]] = []
        user: list[tuple[float, float]] = []
        for step in axis.steps if size.count == 1 else axis.steps[:2]:
            options = axis.at(axis.options, step)
            with own_server() as ours:
                options = replace(options, seconds=size.s(options.seconds))
                figures = SCENARIOS[axis.scenario](ours, options).figures
            check(figures)
            total.append((step, figures["cpu_us_per_delivery"]))
            user.append((step, figures["user_us_per_delivery"]))
            table.tell(f"growth, {axis.unit}", f"{step:,}: CPU of a delivery", total[-1][1], "us")
        lines = {"CPU of a delivery (us)": total, "of it user (us)": user}
        table.plots[axis.of] = _readable_anywhere(plot(lines, axis.unit))


def _readable_anywhere(svg: str) -> str:
    """A picture has no colour to take over from the page: one that stands out from light and dark."""
    return svg.replace('fill="currentColor"', 'fill="#777"', 1) + "\n"
