"""What the benchmarks have found: printed line by line, and in the end as a table for docs/performance.md."""

from __future__ import annotations

import operator
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, TypeAlias

__all__ = ["Row", "Table", "Wanted", "at_least", "at_most", "machine"]

Wanted: TypeAlias = tuple[str, float]
_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "at most": operator.le,
    "at least": operator.ge,
}


def at_most(limit: float) -> Wanted:
    """A target that is met from there down."""
    return ("at most", limit)


def at_least(limit: float) -> Wanted:
    """A target that is met from there up."""
    return ("at least", limit)


@dataclass(frozen=True)
class Row:
    """One figure: what it is of, what was found, and what was wanted (None: nothing)."""

    of: str
    name: str
    found: float
    unit: str
    wanted: Wanted | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met, where there is one."""
        if self.wanted is None:
            return None
        relation, limit = self.wanted
        return _HOLDS[relation](self.found, limit)

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """As text: what it is of, its name, what was found, what was wanted, whether it is met."""
        wanted = "" if self.wanted is None else f"{self.wanted[0]} {self.wanted[1]:g}"
        met = {None: "", True: "yes", False: "no"}[self.met]
        return self.of, self.name, f"{_number(self.found)} {self.unit}".strip(), wanted, met


@dataclass
class Table:
    """Rows in the order in which they were found."""

    rows: list[Row] = field(default_factory=list[Row])
    notes: list[str] = field(default_factory=list[str])
    plots: dict[str, str] = field(default_factory=dict[str, str])
    """SVG by name."""

    def tell(self, of: str, name: str, found: float, unit: str = "", wanted: Wanted | None = None) -> None:
        """One figure more, printed at once."""
        row = Row(of, name, found, unit, wanted)
        if not self.rows or self.rows[-1].of != of:
            _say(f"  {of}:")
        self.rows.append(row)
        _, _, shown, limit, met = row.cells
        _say(f"    {name:<60} {shown:>16}  {limit:<16}{met}".rstrip())

    def note(self, text: str) -> None:
        """Something to be said beside the figures."""
        self.notes.append(text)
        _say(f"  {text}")

    def markdown(self) -> str:
        """All of it as a table."""
        lines = ["| of | what | found | wanted | met |", "| --- | --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(row.cells)} |" for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"

    def wire(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        rows = [
            {
                "of": row.of,
                "name": row.name,
                "found": row.found,
                "unit": row.unit,
                "wanted": None if row.wanted is None else list(row.wanted),
                "met": row.met,
            }
            for row in self.rows
        ]
        return {"machine": machine(), "rows": rows, "notes": self.notes}


def machine() -> str:
    """What it ran on, and how busy that is with other things at the moment."""
    one, five, _ = os.getloadavg()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, uvloop {version('uvloop')}; "
        f"load average {one:.1f} (1 min), {five:.1f} (5 min)"
    )


def _number(value: float) -> str:
    if value and abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
