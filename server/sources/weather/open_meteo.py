"""Open-Meteo: free, without a key. https://open-meteo.com/en/docs"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from server.engine.source import BadAnswer
from server.sources.weather.conditions import condition_of_wmo, precipitation_of_wmo
from server.sources.weather.report import Current, Day, Hour, PressureTrend, WeatherReport
from server.upstream.client import UpstreamClient

__all__ = ["fetch_open_meteo"]

T = TypeVar("T")

_WHO: Final = "Open-Meteo"
_CURRENT: Final = (
    "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,wind_speed_10m,"
    "wind_gusts_10m,wind_direction_10m,is_day,surface_pressure"
)
_HOURLY: Final = (
    "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,precipitation_probability,"
    "weather_code,wind_speed_10m,wind_gusts_10m,wind_direction_10m,is_day,surface_pressure,uv_index,visibility"
)
_DAILY: Final = (
    "weather_code,temperature_2m_max,temperature_2m_min,sunrise,sunset,precipitation_sum,"
    "precipitation_probability_max,snowfall_sum,uv_index_max"
)
_ASKED: Final = {
    "current": _CURRENT,
    "hourly": _HOURLY,
    "daily": _DAILY,
    # Days are those of the place. All times of an answer are then local ones, at one offset that it names.
    "timezone": "auto",
    # The same for everybody, so that everybody can share the answer.
    "forecast_days": "10",
    "forecast_hours": "50",
    "past_hours": "3",
}
# An answer has some 30 KiB.
_MOST_BYTES: Final = 256 * 1024
_TREND_HOURS: Final = 3
_TREND_HPA: Final = 1.0


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


# No weather has figures beyond these, in any unit; what has would not survive being converted.
_Figure = Annotated[float, Field(ge=-1e6, le=1e6)]


class _Current(_Model):
    time: str
    interval: Annotated[float, Field(gt=0, le=1e6)] | None = None
    temperature_2m: _Figure | None = None
    apparent_temperature: _Figure | None = None
    relative_humidity_2m: _Figure | None = None
    precipitation: _Figure | None = None
    weather_code: int | None = None
    wind_speed_10m: _Figure | None = None
    wind_gusts_10m: _Figure | None = None
    wind_direction_10m: _Figure | None = None
    is_day: int | None = None
    surface_pressure: _Figure | None = None


_Figures = Sequence[_Figure | None]
_NONE: Final[Sequence[None]] = ()


class _Hourly(_Model):
    time: Sequence[str] = ()
    temperature_2m: _Figures = _NONE
    apparent_temperature: _Figures = _NONE
    relative_humidity_2m: _Figures = _NONE
    precipitation: _Figures = _NONE
    precipitation_probability: _Figures = _NONE
    weather_code: Sequence[int | None] = _NONE
    wind_speed_10m: _Figures = _NONE
    wind_gusts_10m: _Figures = _NONE
    wind_direction_10m: _Figures = _NONE
    is_day: Sequence[int | None] = _NONE
    surface_pressure: _Figures = _NONE
    uv_index: _Figures = _NONE
    visibility: _Figures = _NONE


class _Daily(_Model):
    time: Sequence[str] = ()
    weather_code: Sequence[int | None] = _NONE
    temperature_2m_max: _Figures = _NONE
    temperature_2m_min: _Figures = _NONE
    sunrise: Sequence[str | None] = _NONE
    sunset: Sequence[str | None] = _NONE
    precipitation_sum: _Figures = _NONE
    precipitation_probability_max: _Figures = _NONE
    snowfall_sum: _Figures = _NONE
    uv_index_max: _Figures = _NONE


class _Answer(_Model):
    utc_offset_seconds: Annotated[int, Field(ge=-86_400, le=86_400)] = 0
    current: _Current | None = None
    hourly: _Hourly = _Hourly()
    daily: _Daily = _Daily()


_SHAPE: Final = TypeAdapter(_Answer)


async def fetch_open_meteo(client: UpstreamClient, base: str, place: tuple[float, float]) -> WeatherReport:
    """The weather at a latitude and longitude. Raises SourceFailure."""
    lat, lng = place
    answer = await client.get_json(
        _WHO,
        f"{base.rstrip('/')}/v1/forecast",
        _SHAPE,
        params={"latitude": f"{lat:g}", "longitude": f"{lng:g}", **_ASKED},
        max_bytes=_MOST_BYTES,
    )
    try:
        return _report(answer)
    except (ValueError, OverflowError):
        raise BadAnswer(f"{_WHO} sent an answer that makes no sense") from None


def _report(answer: _Answer) -> WeatherReport:
    if answer.current is None and not answer.hourly.time and not answer.daily.time:
        raise ValueError("nothing in it")
    offset = timedelta(seconds=answer.utc_offset_seconds)
    hours = tuple(_hours(answer.hourly, offset))
    return WeatherReport(
        provider=_WHO,
        current=None if answer.current is None else _current(answer.current, answer.hourly, offset),
        hours=hours,
        days=tuple(_days(answer.daily, offset)),
    )


def _current(now: _Current, hourly: _Hourly, offset: timedelta) -> Current:
    at = _instant(now.time, offset)
    this_hour = at.replace(minute=0, second=0, microsecond=0)
    index = next((i for i, text in enumerate(hourly.time) if _instant(text, offset) == this_hour), None)
    visibility_m = _at(hourly.visibility, index)
    # The amount is of the interval that ends now, most often a quarter of an hour.
    per_hour = 3600 / (now.interval or 900)
    return Current(
        at=at,
        condition=condition_of_wmo(now.weather_code),
        daylight=_flag(now.is_day),
        humidity=_share(now.relative_humidity_2m),
        precipitation_mm_h=None if now.precipitation is None else now.precipitation * per_hour,
        pressure_hpa=now.surface_pressure,
        pressure_trend=_trend(now.surface_pressure, hourly.surface_pressure, index),
        temperature_c=now.temperature_2m,
        apparent_c=now.apparent_temperature,
        uv_index=_at(hourly.uv_index, index),
        visibility_km=None if visibility_m is None else visibility_m / 1000,
        wind_direction=now.wind_direction_10m,
        wind_gust_kmh=now.wind_gusts_10m,
        wind_kmh=now.wind_speed_10m,
    )


def _hours(hourly: _Hourly, offset: timedelta) -> list[Hour]:
    return [
        Hour(
            at=_instant(text, offset),
            condition=condition_of_wmo(_at(hourly.weather_code, i)),
            daylight=_flag(_at(hourly.is_day, i)),
            humidity=_share(_at(hourly.relative_humidity_2m, i)),
            precipitation_mm=_at(hourly.precipitation, i),
            precipitation_chance=_share(_at(hourly.precipitation_probability, i)),
            precipitation_type=precipitation_of_wmo(_at(hourly.weather_code, i)),
            temperature_c=_at(hourly.temperature_2m, i),
            apparent_c=_at(hourly.apparent_temperature, i),
            uv_index=_at(hourly.uv_index, i),
            wind_direction=_at(hourly.wind_direction_10m, i),
            wind_gust_kmh=_at(hourly.wind_gusts_10m, i),
            wind_kmh=_at(hourly.wind_speed_10m, i),
        )
        for i, text in enumerate(hourly.time)
    ]


def _days(daily: _Daily, offset: timedelta) -> list[Day]:
    days: list[Day] = []
    for i, text in enumerate(daily.time):
        begins = _instant(text, offset)
        snowfall_cm = _at(daily.snowfall_sum, i)
        days.append(
            Day(
                day=date.fromisoformat(text[:10]),
                begins=begins,
                ends=begins + timedelta(days=1),
                condition=condition_of_wmo(_at(daily.weather_code, i)),
                max_uv_index=_at(daily.uv_index_max, i),
                precipitation_mm=_at(daily.precipitation_sum, i),
                precipitation_chance=_share(_at(daily.precipitation_probability_max, i)),
                precipitation_type=precipitation_of_wmo(_at(daily.weather_code, i)),
                snowfall_mm=None if snowfall_cm is None else snowfall_cm * 10,
                sunrise=_instant_or_none(_at(daily.sunrise, i), offset),
                sunset=_instant_or_none(_at(daily.sunset, i), offset),
                temperature_max_c=_at(daily.temperature_2m_max, i),
                temperature_min_c=_at(daily.temperature_2m_min, i),
            )
        )
    return days


def _trend(now: float | None, before: Sequence[float | None], index: int | None) -> PressureTrend | None:
    past = None if index is None or index < _TREND_HOURS else _at(before, index - _TREND_HOURS)
    if now is None or past is None:
        return None
    change = now - past
    return "rising" if change >= _TREND_HPA else "falling" if change <= -_TREND_HPA else "steady"


def _instant(text: str, offset: timedelta) -> datetime:
    """A local time of the answer. Raises ValueError."""
    local = datetime.fromisoformat(text)
    return local.astimezone(UTC) if local.tzinfo else local.replace(tzinfo=UTC) - offset


def _instant_or_none(text: str | None, offset: timedelta) -> datetime | None:
    # Where the sun does not rise, a day's list has an empty text.
    return _instant(text, offset) if text else None


def _at(values: Sequence[T | None], index: int | None) -> T | None:
    return values[index] if index is not None and index < len(values) else None


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _flag(number: int | None) -> bool | None:
    return None if number is None else number != 0
