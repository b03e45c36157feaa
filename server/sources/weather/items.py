"""A report as items of the feed. Pure.

They depend on the report, the hour and a few wishes, and on nothing else of the user: so all users who share
a report share its items too, as the same objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from protocol.feed import ContextEntry, FeedItem, Slot
from protocol.frozen import JsonValue
from protocol.ids import SourceId
from protocol.times import to_wire
from server.engine.source import Answer
from server.sources.item_types import WEATHER_ALERT, WEATHER_CURRENT, WEATHER_DAILY, WEATHER_HOURLY
from server.sources.user import Units
from server.sources.weather.conditions import alert_signals, condition_signals
from server.sources.weather.report import Alert, Current, Day, Hour, WeatherReport
from server.sources.weather.units import Scale

__all__ = ["WEATHER_ID", "Forecast", "Wishes"]

WEATHER_ID: Final = SourceId("freya.weather")

_INSIGHT: Final = Slot("At most 12 words on the weather now and what comes next.")
_HOUR: Final = timedelta(hours=1)
# Users who share a report differ in units and limits; more combinations than this are made anew.
_MOST_KEPT: Final = 64
_TEXT_MAX: Final = 500
_URL_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a user wants the weather."""

    units: Units
    hours: int
    days: int


class Forecast:
    """A report, with the items that were made of it."""

    __slots__ = ("_answers", "_contexts", "report")

    def __init__(self, report: WeatherReport) -> None:
        self.report = report
        self._answers: dict[tuple[Wishes, datetime], Answer] = {}
        self._contexts: dict[Units, tuple[ContextEntry, ...]] = {}

    def answer(self, wishes: Wishes, now: datetime) -> Answer:
        """The items as they are in this hour; the next one changes them."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        answer = self._answers.get((wishes, hour))
        if answer is None:
            if len(self._answers) >= _MOST_KEPT:
                self._answers.clear()
            answer = Answer.of(_items(self.report, wishes, hour, now), hour + _HOUR)
            self._answers[wishes, hour] = answer
        return answer

    def context(self, units: Units) -> tuple[ContextEntry, ...]:
        """What other sources may want to know."""
        entries = self._contexts.get(units)
        if entries is None:
            entries = self._contexts[units] = tuple(_context(self.report, Scale(units)))
        return entries


def _context(report: WeatherReport, scale: Scale) -> Iterator[ContextEntry]:
    now = report.current
    if now is None:
        return
    value = {
        "units": scale.units,
        "temperature": scale.temperature(now.temperature_c),
        "temperatureApparent": scale.temperature(now.apparent_c),
        "condition": now.condition,
        "humidity": now.humidity,
        "uvIndex": now.uv_index,
        "windSpeed": scale.speed(now.wind_kmh),
        "daylight": now.daylight,
    }
    yield ContextEntry.make((WEATHER_ID, "weather"), value)


def _items(report: WeatherReport, wishes: Wishes, hour: datetime, now: datetime) -> Iterator[FeedItem]:
    scale = Scale(wishes.units)
    common: dict[str, JsonValue] = {"units": wishes.units, "provider": report.provider}
    for alert in _distinct(report.alerts):
        if alert.expires is None or alert.expires > now:
            yield _alert(alert, common)
    if report.current is not None:
        yield _current(report.current, common, scale)
    hours = [each for each in report.hours if each.at >= hour][: wishes.hours]
    if hours:
        yield _hourly(hours, common, scale)
    days = [each for each in report.days if each.ends > now][: wishes.days]
    if days:
        yield _daily(days, common, scale)


def _current(now: Current, common: dict[str, JsonValue], scale: Scale) -> FeedItem:
    return FeedItem.make(
        id=f"{WEATHER_ID}/current",
        source_id=WEATHER_ID,
        type=WEATHER_CURRENT,
        timestamp=now.at,
        data={
            **common,
            "conditionCode": now.condition,
            "daylight": now.daylight,
            "humidity": now.humidity,
            "precipitationIntensity": scale.amount(now.precipitation_mm_h),
            "pressure": scale.pressure(now.pressure_hpa),
            "pressureTrend": now.pressure_trend,
            "temperature": scale.temperature(now.temperature_c),
            "temperatureApparent": scale.temperature(now.apparent_c),
            "uvIndex": now.uv_index,
            "visibility": scale.distance(now.visibility_km),
            "windDirection": now.wind_direction,
            "windGust": scale.speed(now.wind_gust_kmh),
            "windSpeed": scale.speed(now.wind_kmh),
        },
        signals=condition_signals(0.5, now.condition),
        slots={"insight": _INSIGHT},
    )


def _hourly(hours: Sequence[Hour], common: dict[str, JsonValue], scale: Scale) -> FeedItem:
    return FeedItem.make(
        id=f"{WEATHER_ID}/hourly",
        source_id=WEATHER_ID,
        type=WEATHER_HOURLY,
        timestamp=hours[0].at,
        data={**common, "hours": [_hour(each, scale) for each in hours]},
        signals=condition_signals(0.3, *(each.condition for each in hours)),
    )


def _hour(hour: Hour, scale: Scale) -> dict[str, JsonValue]:
    return {
        "forecastTime": to_wire(hour.at),
        "conditionCode": hour.condition,
        "daylight": hour.daylight,
        "humidity": hour.humidity,
        "precipitationAmount": scale.amount(hour.precipitation_mm),
        "precipitationChance": hour.precipitation_chance,
        "precipitationType": hour.precipitation_type,
        "temperature": scale.temperature(hour.temperature_c),
        "temperatureApparent": scale.temperature(hour.apparent_c),
        "uvIndex": hour.uv_index,
        "windDirection": hour.wind_direction,
        "windGust": scale.speed(hour.wind_gust_kmh),
        "windSpeed": scale.speed(hour.wind_kmh),
    }


def _daily(days: Sequence[Day], common: dict[str, JsonValue], scale: Scale) -> FeedItem:
    return FeedItem.make(
        id=f"{WEATHER_ID}/daily",
        source_id=WEATHER_ID,
        type=WEATHER_DAILY,
        timestamp=days[0].begins,
        data={**common, "days": [_day(each, scale) for each in days]},
        signals=condition_signals(0.2, *(each.condition for each in days)),
    )


def _day(day: Day, scale: Scale) -> dict[str, JsonValue]:
    return {
        "forecastDate": day.day.isoformat(),
        "conditionCode": day.condition,
        "maxUvIndex": day.max_uv_index,
        "precipitationAmount": scale.amount(day.precipitation_mm),
        "precipitationChance": day.precipitation_chance,
        "precipitationType": day.precipitation_type,
        "snowfallAmount": scale.amount(day.snowfall_mm),
        "sunrise": None if day.sunrise is None else to_wire(day.sunrise),
        "sunset": None if day.sunset is None else to_wire(day.sunset),
        "temperatureMax": scale.temperature(day.temperature_max_c),
        "temperatureMin": scale.temperature(day.temperature_min_c),
    }


def _distinct(alerts: Sequence[Alert]) -> list[Alert]:
    return list({alert.id: alert for alert in reversed(alerts)}.values())[::-1]


def _alert(alert: Alert, common: dict[str, JsonValue]) -> FeedItem:
    # What an authority calls it may be of any length and kind; it only has to be the same every time.
    name = blake2b(alert.id.encode(), digest_size=9).hexdigest()
    url = alert.details_url
    return FeedItem.make(
        id=f"{WEATHER_ID}/alert-{name}",
        source_id=WEATHER_ID,
        type=WEATHER_ALERT,
        timestamp=alert.effective,
        data={
            "provider": common["provider"],
            "alertId": _text(alert.id),
            "areaName": _text(alert.area),
            "certainty": _text(alert.certainty),
            "description": _text(alert.description),
            "detailsUrl": url if url and url.startswith(("http://", "https://")) else None,
            "effectiveTime": to_wire(alert.effective),
            "expireTime": None if alert.expires is None else to_wire(alert.expires),
            "severity": alert.severity,
            "source": _text(alert.source),
            "urgency": _text(alert.urgency),
        },
        signals=alert_signals(alert.severity),
        expires_at=alert.expires,
    )


def _text(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "")[:_TEXT_MAX]
