"""What kinds of weather there are, and how much each matters. Pure."""

from __future__ import annotations

from typing import Final

from protocol.feed import Signals, TimeRelevance

__all__ = ["alert_signals", "condition_of_wmo", "condition_signals", "precipitation_of_wmo"]

# WMO 4677, as far as forecasts use it, to the condition codes of WeatherKit.
_WMO: Final = {
    0: "Clear",
    1: "MostlyClear",
    2: "PartlyCloudy",
    3: "Cloudy",
    45: "Fog",
    48: "Fog",
    51: "Drizzle",
    53: "Drizzle",
    55: "Drizzle",
    56: "FreezingDrizzle",
    57: "FreezingDrizzle",
    61: "Rain",
    63: "Rain",
    65: "HeavyRain",
    66: "FreezingRain",
    67: "FreezingRain",
    71: "Flurries",
    73: "Snow",
    75: "HeavySnow",
    77: "Flurries",
    80: "Showers",
    81: "Showers",
    82: "HeavyRain",
    85: "SnowShowers",
    86: "HeavySnow",
    95: "Thunderstorm",
    96: "SevereThunderstorm",
    99: "SevereThunderstorm",
}

_SEVERE: Final = frozenset(
    {
        "SevereThunderstorm",
        "Hurricane",
        "Tornado",
        "TropicalStorm",
        "Blizzard",
        "FreezingRain",
        "Hail",
        "Frigid",
        "Hot",
    }
)
_MODERATE: Final = frozenset(
    {
        "Thunderstorm",
        "IsolatedThunderstorms",
        "ScatteredThunderstorms",
        "HeavyRain",
        "HeavySnow",
        "FreezingDrizzle",
        "BlowingSnow",
    }
)

_ALERTS: Final[dict[str, Signals]] = {
    "extreme": Signals(1.0, "imminent"),
    "severe": Signals(0.9, "imminent"),
    "moderate": Signals(0.75, "upcoming"),
    "minor": Signals(0.7, "ambient"),
}
_RELEVANCE_ORDER: Final[tuple[TimeRelevance, ...]] = ("ambient", "upcoming", "imminent")


def condition_of_wmo(code: int | None) -> str | None:
    """The condition code; None for a code nobody forecasts."""
    return None if code is None else _WMO.get(code)


def precipitation_of_wmo(code: int | None) -> str | None:
    """What falls in that weather, in WeatherKit's words."""
    if code is None or code not in _WMO:
        return None
    if code in (56, 57, 66, 67):
        return "sleet"
    if code in (96, 99):
        return "hail"
    if 71 <= code <= 77 or code in (85, 86):
        return "snow"
    return "rain" if code > 50 else "clear"


def condition_signals(base: float, *conditions: str | None) -> Signals:
    """How much one or several hours or days matter: the mean of their urgencies, the most pressing of their
    relevances."""
    single = [_one(base, condition) for condition in conditions or (None,)]
    urgency = sum(urgency for urgency, _ in single) / len(single)
    relevance = _RELEVANCE_ORDER[max(_RELEVANCE_ORDER.index(relevance) for _, relevance in single)]
    return Signals(round(urgency, 3), relevance)


def alert_signals(severity: str) -> Signals:
    """How much a warning matters; one of unknown severity as much as a minor one."""
    return _ALERTS.get(severity, _ALERTS["minor"])


def _one(base: float, condition: str | None) -> tuple[float, TimeRelevance]:
    if condition in _SEVERE:
        return min(base + 0.3, 1.0), "imminent"
    if condition in _MODERATE:
        return min(base + 0.15, 1.0), "upcoming"
    return base, "ambient"
