"""When the sun rises and sets: pure calculation.

After NOAA's Solar Calculator (https://gml.noaa.gov/grad/solcalc/calcdetails.html), whose equations are from
Jean Meeus, *Astronomical Algorithms*. Right to about a minute between the polar circles and for years 1901
to 2099; near the poles, where the sun grazes the horizon, refraction alone makes more difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import acos, asin, cos, degrees, radians, sin, tan
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from server.sources.zones import instant

__all__ = ["SunTimes", "sun_times"]

# The upper edge of the sun on the horizon, with mean refraction: 90 degrees and 50 minutes from the zenith.
_HORIZON: Final = radians(90.833)
_J2000: Final = datetime(2000, 1, 1, 12, tzinfo=UTC)
_CENTURY: Final = timedelta(days=36525)


@dataclass(frozen=True, slots=True)
class SunTimes:
    """A day's sun at a place: either both times, in UTC, or why there are none."""

    sunrise: datetime | None
    sunset: datetime | None
    polar: Literal["day", "night"] | None = None


def sun_times(day: date, lat: float, lng: float, zone: ZoneInfo) -> SunTimes:
    """The sunrise before and the sunset after the noon of that local day."""
    noon = _solar_noon(instant(datetime.combine(day, time(12)), zone), lng)
    cosine = _cosine_of_half_day(noon, lat)
    if cosine >= 1:
        return SunTimes(None, None, "night")
    if cosine <= -1:
        return SunTimes(None, None, "day")
    return SunTimes(_crossing(noon, lat, lng, -1), _crossing(noon, lat, lng, 1))


class _Sun(NamedTuple):
    declination: float
    """Radians."""
    equation_of_time: float
    """Minutes by which a sundial is ahead of the mean sun."""


def _solar_noon(near: datetime, lng: float) -> datetime:
    """When the sun is highest at that longitude, the time nearest to `near`."""
    sundial = _sundial(near, lng)
    off = (sundial - timedelta(hours=12) - datetime.combine(sundial.date(), time())).total_seconds()
    guess = near - timedelta(seconds=off)
    # The equation of time is not the same at that moment as at `near`: once more is right to the second.
    return guess + timedelta(minutes=_sun(near).equation_of_time - _sun(guess).equation_of_time)


def _sundial(when: datetime, lng: float) -> datetime:
    """The time a sundial shows there, naive. The earth turns a degree in four minutes."""
    return when.replace(tzinfo=None) + timedelta(minutes=4 * lng + _sun(when).equation_of_time)


def _crossing(noon: datetime, lat: float, lng: float, side: Literal[-1, 1]) -> datetime:
    """When the sun crosses the horizon, before (-1) or after (1) noon, in whole minutes."""
    when = noon
    for _ in range(3):
        # With the sun where it is at the time found last; the first round takes it as it stands at noon.
        angle = degrees(acos(max(-1.0, min(1.0, _cosine_of_half_day(when, lat)))))
        shift = _sun(noon).equation_of_time - _sun(when).equation_of_time
        when = noon + timedelta(minutes=side * 4 * angle + shift)
    return (when + timedelta(seconds=30)).replace(second=0, microsecond=0)


def _cosine_of_half_day(when: datetime, lat: float) -> float:
    """The cosine of the angle by which the earth turns from noon to sunset; beyond 1 or -1, it does not
    set."""
    declination = _sun(when).declination
    # At the very pole the cosine is not quite 0 in floating point, so nothing is divided by 0.
    at = radians(max(-89.9999, min(89.9999, lat)))
    return cos(_HORIZON) / (cos(at) * cos(declination)) - tan(at) * tan(declination)


def _sun(when: datetime) -> _Sun:
    t = (when - _J2000) / _CENTURY
    mean_longitude = radians((280.46646 + t * (36000.76983 + t * 0.0003032)) % 360)
    anomaly = radians((357.52911 + t * (35999.05029 - t * 0.0001537)) % 360)
    eccentricity = 0.016708634 - t * (0.000042037 + t * 0.0000001267)
    centre = (
        sin(anomaly) * (1.914602 - t * (0.004817 + t * 0.000014))
        + sin(2 * anomaly) * (0.019993 - t * 0.000101)
        + sin(3 * anomaly) * 0.000289
    )
    node = radians(125.04 - 1934.136 * t)
    longitude = mean_longitude + radians(centre - 0.00569 - 0.00478 * sin(node))
    seconds = 21.448 - t * (46.815 + t * (0.00059 - t * 0.001813))
    obliquity = radians(23 + (26 + seconds / 60) / 60 + 0.00256 * cos(node))
    return _Sun(
        asin(sin(obliquity) * sin(longitude)),
        _equation_of_time(mean_longitude, anomaly, eccentricity, obliquity),
    )


def _equation_of_time(mean_longitude: float, anomaly: float, eccentricity: float, obliquity: float) -> float:
    y = tan(obliquity / 2) ** 2
    return 4 * degrees(
        y * sin(2 * mean_longitude)
        - 2 * eccentricity * sin(anomaly)
        + 4 * eccentricity * y * sin(anomaly) * cos(2 * mean_longitude)
        - 0.5 * y * y * sin(4 * mean_longitude)
        - 1.25 * eccentricity * eccentricity * sin(2 * anomaly)
    )
