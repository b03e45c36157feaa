"""Apple's WeatherKit REST API. https://developer.apple.com/documentation/weatherkitrestapi

Requests are signed with a token of the operator's key (ES256), made once an hour and not for every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import jwt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from server.engine.clock import Clock
from server.engine.source import BadAnswer, ConfigProblem, SourceFailure, Unauthorized
from server.sources.services import WeatherKitKey
from server.sources.weather.report import Alert, Current, Day, Hour, PressureTrend, WeatherReport
from server.upstream.client import UpstreamClient

__all__ = ["TokenMaker", "WeatherKitQuestion", "check_private_key", "fetch_weatherkit"]

_WHO: Final = "Apple Weather"
_DATA_SETS: Final = "currentWeather,forecastHourly,forecastDaily,weatherAlerts"
_TOKEN_S: Final = 3600
# A token that ends under way is refused.
_TOKEN_MARGIN_S: Final = 300
_MOST_BYTES: Final = 1024 * 1024


def check_private_key(pem: str) -> None:
    """Raises ValueError for what is no key that WeatherKit's tokens can be signed with."""
    try:
        jwt.encode({}, pem, algorithm="ES256")
    except Exception:
        # The library's errors are of a dozen kinds, and may quote the key.
        raise ValueError("not a private key of the curve P-256 in PEM form") from None


class TokenMaker:
    """Tokens of one operator key."""

    def __init__(self, key: WeatherKitKey) -> None:
        self._key = key
        self._token = ""
        self._until = datetime.min.replace(tzinfo=UTC)

    def token(self, now: datetime) -> str:
        """A token with at least five minutes left. Raises ConfigProblem for a key that can't sign."""
        if now >= self._until:
            key = self._key
            claims = {
                "iss": key.team_id,
                "sub": key.service_id,
                "iat": int(now.timestamp()),
                "exp": int(now.timestamp()) + _TOKEN_S,
            }
            headers = {"kid": key.key_id, "id": f"{key.team_id}.{key.service_id}"}
            try:
                self._token = jwt.encode(claims, key.private_key, algorithm="ES256", headers=headers)
            except Exception:
                raise ConfigProblem("the server's key for Apple Weather can't be used") from None
            self._until = now + timedelta(seconds=_TOKEN_S - _TOKEN_MARGIN_S)
        return self._token


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", allow_inf_nan=False)


# No weather has figures beyond these, in any unit; what has would not survive being converted.
_Figure = Annotated[float, Field(ge=-1e6, le=1e6)]


class _CurrentWeather(_Model):
    as_of: AwareDatetime
    condition_code: str
    daylight: bool | None = None
    humidity: _Figure | None = None
    precipitation_intensity: _Figure | None = None
    pressure: _Figure | None = None
    pressure_trend: PressureTrend | None = None
    temperature: _Figure
    temperature_apparent: _Figure | None = None
    uv_index: _Figure | None = None
    visibility: _Figure | None = None
    wind_direction: _Figure | None = None
    wind_gust: _Figure | None = None
    wind_speed: _Figure | None = None


class _HourWeather(_Model):
    forecast_start: AwareDatetime
    condition_code: str
    daylight: bool | None = None
    humidity: _Figure | None = None
    precipitation_amount: _Figure | None = None
    precipitation_chance: _Figure | None = None
    precipitation_type: str | None = None
    temperature: _Figure
    temperature_apparent: _Figure | None = None
    uv_index: _Figure | None = None
    wind_direction: _Figure | None = None
    wind_gust: _Figure | None = None
    wind_speed: _Figure | None = None


class _DayWeather(_Model):
    forecast_start: AwareDatetime
    forecast_end: AwareDatetime
    condition_code: str
    max_uv_index: _Figure | None = None
    precipitation_amount: _Figure | None = None
    precipitation_chance: _Figure | None = None
    precipitation_type: str | None = None
    snowfall_amount: _Figure | None = None
    sunrise: AwareDatetime | None = None
    sunset: AwareDatetime | None = None
    temperature_max: _Figure | None = None
    temperature_min: _Figure | None = None


class _WeatherAlert(_Model):
    id: str
    area_name: str | None = None
    certainty: str | None = None
    description: str | None = None
    details_url: str | None = None
    effective_time: AwareDatetime
    expire_time: AwareDatetime | None = None
    severity: str = "unknown"
    source: str | None = None
    urgency: str | None = None


class _Hours(_Model):
    hours: Annotated[Sequence[_HourWeather], Field(max_length=2000)] = ()


class _Days(_Model):
    days: Annotated[Sequence[_DayWeather], Field(max_length=100)] = ()


class _Alerts(_Model):
    alerts: Annotated[Sequence[_WeatherAlert], Field(max_length=100)] = ()


class _Answer(_Model):
    current_weather: _CurrentWeather | None = None
    forecast_hourly: _Hours = _Hours()
    forecast_daily: _Days = _Days()
    weather_alerts: _Alerts = _Alerts()


_SHAPE: Final = TypeAdapter(_Answer)


@dataclass(frozen=True, slots=True)
class WeatherKitQuestion:
    """What an answer depends on, beside the place."""

    zone: str
    """In which days are counted."""
    language: str
    country: str | None
    """ISO 3166, two letters; warnings are given for a named country alone."""


async def fetch_weatherkit(
    client: UpstreamClient,
    base: str,
    tokens: TokenMaker,
    clock: Clock,
    place: tuple[float, float],
    question: WeatherKitQuestion,
) -> WeatherReport:
    """The weather at a latitude and longitude. Raises SourceFailure."""
    lat, lng = place
    params = {"dataSets": _DATA_SETS, "timezone": question.zone}
    if question.country is not None:
        params["country"] = question.country
    try:
        answer = await client.get_json(
            _WHO,
            f"{base.rstrip('/')}/api/v1/weather/{question.language}/{lat:g}/{lng:g}",
            _SHAPE,
            params=params,
            headers={"Authorization": f"Bearer {tokens.token(clock.now())}"},
            max_bytes=_MOST_BYTES,
        )
    except Unauthorized:
        # Not the user's credentials: nothing that they could connect again.
        raise SourceFailure("Apple Weather refuses the server's key", code="config") from None
    try:
        return _report(answer, ZoneInfo(question.zone))
    except OverflowError:  # a time at the edge of the calendar
        raise BadAnswer(f"{_WHO} sent an answer that makes no sense") from None


def _report(answer: _Answer, zone: ZoneInfo) -> WeatherReport:
    now = answer.current_weather
    return WeatherReport(
        provider=_WHO,
        current=None if now is None else _current(now),
        hours=tuple(_hour(each) for each in answer.forecast_hourly.hours),
        days=tuple(_day(each, zone) for each in answer.forecast_daily.days),
        alerts=tuple(_alert(each) for each in answer.weather_alerts.alerts),
    )


def _current(now: _CurrentWeather) -> Current:
    return Current(
        at=now.as_of.astimezone(UTC),
        condition=now.condition_code,
        daylight=now.daylight,
        humidity=now.humidity,
        precipitation_mm_h=now.precipitation_intensity,
        pressure_hpa=now.pressure,
        pressure_trend=now.pressure_trend,
        temperature_c=now.temperature,
        apparent_c=now.temperature_apparent,
        uv_index=now.uv_index,
        visibility_km=None if now.visibility is None else now.visibility / 1000,  # it comes in metres
        wind_direction=now.wind_direction,
        wind_gust_kmh=now.wind_gust,
        wind_kmh=now.wind_speed,
    )


def _hour(hour: _HourWeather) -> Hour:
    return Hour(
        at=hour.forecast_start.astimezone(UTC),
        condition=hour.condition_code,
        daylight=hour.daylight,
        humidity=hour.humidity,
        precipitation_mm=hour.precipitation_amount,
        precipitation_chance=hour.precipitation_chance,
        precipitation_type=hour.precipitation_type,
        temperature_c=hour.temperature,
        apparent_c=hour.temperature_apparent,
        uv_index=hour.uv_index,
        wind_direction=hour.wind_direction,
        wind_gust_kmh=hour.wind_gust,
        wind_kmh=hour.wind_speed,
    )


def _day(day: _DayWeather, zone: ZoneInfo) -> Day:
    begins = day.forecast_start.astimezone(UTC)
    local: date = day.forecast_start.astimezone(zone).date()
    return Day(
        day=local,
        begins=begins,
        ends=day.forecast_end.astimezone(UTC),
        condition=day.condition_code,
        max_uv_index=day.max_uv_index,
        precipitation_mm=day.precipitation_amount,
        precipitation_chance=day.precipitation_chance,
        precipitation_type=day.precipitation_type,
        snowfall_mm=day.snowfall_amount,
        sunrise=day.sunrise,
        sunset=day.sunset,
        temperature_max_c=day.temperature_max,
        temperature_min_c=day.temperature_min,
    )


def _alert(alert: _WeatherAlert) -> Alert:
    return Alert(
        id=alert.id,
        area=alert.area_name,
        certainty=alert.certainty,
        description=alert.description,
        details_url=alert.details_url,
        effective=alert.effective_time,
        expires=alert.expire_time,
        severity=alert.severity.lower(),
        source=alert.source,
        urgency=alert.urgency,
    )
