"""The weather of one place, the same from whichever service: metric, in UTC, with WeatherKit's names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

__all__ = ["Alert", "Current", "Day", "Hour", "PressureTrend", "WeatherReport"]

PressureTrend = Literal["rising", "falling", "steady"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """Now. Everything but the time may be unknown."""

    at: datetime
    condition: str | None = None
    """A condition code of WeatherKit, such as `PartlyCloudy`."""
    daylight: bool | None = None
    humidity: float | None = None
    """0 to 1."""
    precipitation_mm_h: float | None = None
    pressure_hpa: float | None = None
    pressure_trend: PressureTrend | None = None
    temperature_c: float | None = None
    apparent_c: float | None = None
    uv_index: float | None = None
    visibility_km: float | None = None
    wind_direction: float | None = None
    """Degrees; where it comes from."""
    wind_gust_kmh: float | None = None
    wind_kmh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """One hour of the forecast."""

    at: datetime
    condition: str | None = None
    daylight: bool | None = None
    humidity: float | None = None
    precipitation_mm: float | None = None
    precipitation_chance: float | None = None
    """0 to 1."""
    precipitation_type: str | None = None
    """clear, rain, snow, sleet, hail or mixed."""
    temperature_c: float | None = None
    apparent_c: float | None = None
    uv_index: float | None = None
    wind_direction: float | None = None
    wind_gust_kmh: float | None = None
    wind_kmh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of the forecast, as days are counted at the place."""

    day: date
    begins: datetime
    ends: datetime
    condition: str | None = None
    max_uv_index: float | None = None
    precipitation_mm: float | None = None
    precipitation_chance: float | None = None
    precipitation_type: str | None = None
    snowfall_mm: float | None = None
    sunrise: datetime | None = None
    sunset: datetime | None = None
    temperature_max_c: float | None = None
    temperature_min_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A warning of the authorities."""

    id: str
    area: str | None
    certainty: str | None
    description: str | None
    details_url: str | None
    effective: datetime
    expires: datetime | None
    severity: str
    """extreme, severe, moderate, minor or unknown."""
    source: str | None
    urgency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherReport:
    """One answer of a service."""

    provider: str
    """Who is to be named as the source."""
    current: Current | None = None
    hours: tuple[Hour, ...] = ()
    days: tuple[Day, ...] = ()
    alerts: tuple[Alert, ...] = ()
