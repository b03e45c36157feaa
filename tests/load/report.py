"""The result as a page: figures, plots as inline SVG, and nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Final

from tests.load.scenarios import Result

__all__ = ["page", "plot"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 200, 56, 24
_COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed")
_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 760px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td { padding: .1rem 1rem .1rem 0 }
td:last-child { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto } .bad { color: #dc2626 }
"""
_TOGETHER: Final = (
    ("Latency from the moment a change was due (ms)", ("latency_p50_ms", "latency_p99_ms")),
    ("Age of the state at the client (ms)", ("age_p50_ms", "age_p99_ms")),
    ("Deliveries a second", ("deliveries_per_s",)),
    ("CPU of the server (% of a core)", ("cpu_percent",)),
    ("Resident memory of the server (MiB)", ("rss_mib",)),
)


def page(scenario: str, options: Mapping[str, object], result: Result, failed: Sequence[str]) -> str:
    """One self-contained HTML document."""
    parts = [f"<h1>Freya Push under load: {html.escape(scenario)}</h1>", _table(options)]
    parts += [f'<p class="bad">Failed: {html.escape(text)}</p>' for text in failed]
    parts += [f'<p class="bad">{html.escape(text)}</p>' for text in result.problems]
    parts += ["<h2>Figures</h2>", _table(result.figures)]
    for title, names in _TOGETHER:
        lines = {name: result.series[name] for name in names if result.series.get(name)}
        if lines:
            parts += [f"<h2>{html.escape(title)}</h2>", plot(lines)]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(scenario)}</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def plot(lines: Mapping[str, Sequence[tuple[float, float]]], x_name: str = "s") -> str:
    """Lines over one pair of axes, as SVG. The vertical axis begins at zero."""
    points = [point for line in lines.values() for point in line]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top = max(y for _, y in points) * 1.05 or 1.0
    width = max(right - left, 1e-9)

    def place(x: float, y: float) -> str:
        across = _LEFT + (x - left) / width * (_WIDTH - _LEFT - 8)
        return f"{across:.1f},{_HEIGHT - _BOTTOM - y / top * (_HEIGHT - _BOTTOM - 16):.1f}"

    begin = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
    drawn = [begin + 'font-family="system-ui, sans-serif" font-size="11" fill="currentColor" role="img">']
    for part in range(5):
        y = top * part / 4
        across, down = place(left, y).split(",")
        drawn.append(
            f'<path d="M{across},{down}H{_WIDTH - 8}" stroke="#8886" stroke-width="1"/>'
            f'<text x="{_LEFT - 6}" y="{float(down) + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        )
    for part in range(5):
        x = left + width * part / 4
        across = place(x, 0).split(",")[0]
        drawn.append(f'<text x="{across}" y="{_HEIGHT - 6}" text-anchor="middle">{_number(x)}</text>')
    drawn.append(f'<text x="4" y="{_HEIGHT - 6}">{html.escape(x_name)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(place(x, y) for x, y in line)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        drawn.append(f'<text x="{_LEFT + number * 150}" y="11" fill="{colour}">{html.escape(name)}</text>')
    return "".join([*drawn, "</svg>"])


def _table(rows: Mapping[str, object]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.3g}"
