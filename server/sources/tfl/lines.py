"""The lines, and what their status codes mean. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, get_args

from protocol.feed import Signals

__all__ = [
    "LINES",
    "LineId",
    "Severity",
    "distance_km",
    "line_of",
    "nearest",
    "severity_of",
    "signals_of",
    "worst",
]

LineId: TypeAlias = Literal[
    "bakerloo",
    "central",
    "circle",
    "district",
    "hammersmith-city",
    "jubilee",
    "metropolitan",
    "northern",
    "piccadilly",
    "victoria",
    "waterloo-city",
    "lioness",
    "mildmay",
    "windrush",
    "weaver",
    "suffragette",
    "liberty",
    "elizabeth",
]
LINES: Final[tuple[LineId, ...]] = get_args(LineId)
_BY_NAME: Final[dict[str, LineId]] = {line: line for line in LINES}

Severity: TypeAlias = Literal["closure", "major-delays", "minor-delays"]

# Transport for London's /Line/Meta/Severity. What is not named here is no disruption of a journey: good
# service (10), information, closed for the night (20).
_SEVERITIES: Final[dict[int, Severity]] = {
    1: "closure",  # Closed
    2: "closure",  # Suspended
    3: "closure",  # Part Suspended
    4: "closure",  # Planned Closure
    5: "closure",  # Part Closure
    6: "major-delays",  # Severe Delays
    7: "major-delays",  # Reduced Service
    8: "major-delays",  # Bus Service
    9: "minor-delays",  # Minor Delays
    11: "closure",  # Part Closed
    16: "closure",  # Not Running
}

_SIGNALS: Final[dict[Severity, Signals]] = {
    "closure": Signals(1.0, "imminent"),
    "major-delays": Signals(0.8, "imminent"),
    "minor-delays": Signals(0.6, "upcoming"),
}
_WORST_FIRST: Final = tuple(_SIGNALS)

_EARTH_KM: Final = 6371.0


def line_of(text: str) -> LineId | None:
    """The line of that id, if there is one."""
    return _BY_NAME.get(text)


def severity_of(code: int) -> Severity | None:
    """What a status code means to somebody who wants to travel; None: nothing."""
    return _SEVERITIES.get(code)


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of some; there must be one."""
    return min(severities, key=_WORST_FIRST.index)


def signals_of(severity: Severity) -> Signals:
    """How much it matters."""
    return _SIGNALS[severity]


def nearest(place: tuple[float, float], others: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The nearest of some places (there must be one), taken on a flat map: across a city, the same."""
    lat, lng = place
    narrow = math.cos(math.radians(lat)) ** 2

    def apart(other: tuple[float, float]) -> float:
        return (other[0] - lat) ** 2 + narrow * (other[1] - lng) ** 2

    return min(others, key=apart)


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Between two places (latitude, longitude), as the crow flies."""
    lat_a, lng_a, lat_b, lng_b = map(math.radians, (*a, *b))
    haversine = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin((lng_b - lng_a) / 2) ** 2
    )
    return 2 * _EARTH_KM * math.asin(math.sqrt(min(haversine, 1.0)))
