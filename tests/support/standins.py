"""The services of the outside world, as small as they can be: they answer in the documented formats.

Each is an `Answer` for `open_web`, and counts by what it was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import jwt
import orjson

from tests.support.clock import START
from tests.support.web import Asked, Reply, json_reply

__all__ = ["ListenBrainz", "OpenMeteo", "Tfl", "WeatherKit"]


def _query(asked: Asked) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(asked.query).items()}


class OpenMeteo:
    """`/v1/forecast`: hours and days from `now` on, local times of a place at `offset_s`."""

    def __init__(self, now: datetime = START, *, offset_s: int = 0) -> None:
        self.now = now
        self.offset_s = offset_s
        self.calls = 0
        self.places = Counter[tuple[str, str]]()
        self.code = 2
        self.temperature = 11.4
        self.change: Mapping[str, Any] = {}
        """Laid over the answer."""

    def answer(self, asked: Asked) -> Reply:
        assert asked.path == "/v1/forecast", asked.path
        self.calls += 1
        query = _query(asked)
        self.places[query["latitude"], query["longitude"]] += 1
        return json_reply(orjson.dumps({**self.body(), **self.change}))

    def body(self) -> dict[str, Any]:
        local = self.now.replace(tzinfo=None) + timedelta(seconds=self.offset_s)
        hour = local.replace(minute=0, second=0)
        hours = [hour + timedelta(hours=n - 3) for n in range(53)]
        days = [hour.replace(hour=0) + timedelta(days=n) for n in range(10)]
        return {
            "latitude": 51.5,
            "longitude": -0.1,
            "utc_offset_seconds": self.offset_s,
            "timezone": "Etc/GMT",
            "current_units": {"temperature_2m": "°C", "wind_speed_10m": "km/h"},
            "current": {
                "time": local.strftime("%Y-%m-%dT%H:%M"),
                "interval": 900,
                "temperature_2m": self.temperature,
                "apparent_temperature": 9.2,
                "relative_humidity_2m": 71,
                "precipitation": 0.3,
                "weather_code": self.code,
                "wind_speed_10m": 18.0,
                "wind_gusts_10m": 36.0,
                "wind_direction_10m": 225,
                "is_day": 1,
                "surface_pressure": 1012.6,
            },
            "hourly": {
                "time": [f"{at:%Y-%m-%dT%H:%M}" for at in hours],
                "temperature_2m": [10.0 + n / 10 for n in range(53)],
                "apparent_temperature": [8.0 + n / 10 for n in range(53)],
                "relative_humidity_2m": [70] * 53,
                "precipitation": [0.5] * 53,
                "precipitation_probability": [40] * 53,
                "weather_code": [61] * 53,
                "wind_speed_10m": [20.0] * 53,
                "wind_gusts_10m": [40.0] * 53,
                "wind_direction_10m": [220] * 53,
                "is_day": [1] * 53,
                "surface_pressure": [1010.0 + n for n in range(53)],
                "uv_index": [1.5] * 53,
                "visibility": [24140.0] * 53,
            },
            "daily": {
                "time": [f"{day:%Y-%m-%d}" for day in days],
                "weather_code": [63] * 10,
                "temperature_2m_max": [12.0 + n for n in range(10)],
                "temperature_2m_min": [4.0 + n for n in range(10)],
                "sunrise": [f"{day:%Y-%m-%d}T06:45" for day in days],
                "sunset": [f"{day:%Y-%m-%d}T17:40" for day in days],
                "precipitation_sum": [2.5] * 10,
                "precipitation_probability_max": [55] * 10,
                "snowfall_sum": [0.7] * 10,
                "uv_index_max": [2.0] * 10,
            },
        }


class WeatherKit:
    """`/api/v1/weather/LANG/LAT/LNG`: checks the token's signature by the public key."""

    def __init__(self, public_key: str, now: datetime = START) -> None:
        self.now = now
        self.calls = 0
        self.tokens = Counter[str]()
        self.queries: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.change: Mapping[str, Any] = {}
        self._public_key = public_key

    def answer(self, asked: Asked) -> Reply:
        self.calls += 1
        self.paths.append(asked.path)
        self.queries.append(_query(asked))
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return json_reply('{"reason": "NOT_ENABLED"}', 401)
        self.tokens[token] += 1
        options = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, self._public_key, algorithms=["ES256"], options=options)  # pyright: ignore[reportArgumentType] -- typed without these
        head = jwt.get_unverified_header(token)
        now_s = self.now.timestamp()
        if not claims["iat"] <= now_s + 1 or head["id"] != f"{claims['iss']}.{claims['sub']}":
            return json_reply('{"reason": "INVALID_TOKEN"}', 401)
        return json_reply(orjson.dumps({**self.body(), **self.change}))

    def body(self) -> dict[str, Any]:
        hour = self.now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        # The raw list begins hours before now.
        hours = [hour + timedelta(hours=n - 10) for n in range(40)]
        days = [hour.replace(hour=0) + timedelta(days=n) for n in range(10)]
        return {
            "currentWeather": {
                "name": "CurrentWeather",
                "metadata": {"attributionURL": "https://example.com", "version": 1, "units": "m"},
                "asOf": _apple(self.now),
                "cloudCover": 0.8,
                "conditionCode": "Thunderstorm",
                "daylight": True,
                "humidity": 0.71,
                "precipitationIntensity": 1.2,
                "pressure": 1012.6,
                "pressureTrend": "falling",
                "temperature": 11.4,
                "temperatureApparent": 9.2,
                "temperatureDewPoint": 6.3,
                "uvIndex": 2,
                "visibility": 24140.16,
                "windDirection": 225,
                "windGust": 36.0,
                "windSpeed": 18.0,
            },
            "forecastHourly": {
                "name": "HourlyForecast",
                "hours": [
                    {
                        "forecastStart": _apple(at),
                        "conditionCode": "Rain",
                        "daylight": True,
                        "humidity": 0.7,
                        "precipitationAmount": 0.5,
                        "precipitationChance": 0.4,
                        "precipitationType": "rain",
                        "temperature": 10.0,
                        "temperatureApparent": 8.0,
                        "uvIndex": 1,
                        "visibility": 20000,
                        "windDirection": 220,
                        "windGust": 40.0,
                        "windSpeed": 20.0,
                    }
                    for at in hours
                ],
            },
            "forecastDaily": {
                "name": "DailyForecast",
                "days": [
                    {
                        "forecastStart": _apple(day),
                        "forecastEnd": _apple(day + timedelta(days=1)),
                        "conditionCode": "HeavyRain",
                        "maxUvIndex": 3,
                        "precipitationAmount": 2.5,
                        "precipitationChance": 0.55,
                        "precipitationType": "rain",
                        "snowfallAmount": 0.0,
                        "sunrise": _apple(day + timedelta(hours=6, minutes=45)),
                        "sunset": _apple(day + timedelta(hours=17, minutes=40)),
                        "temperatureMax": 12.0,
                        "temperatureMin": 4.0,
                    }
                    for day in days
                ],
            },
            "weatherAlerts": {
                "name": "WeatherAlertCollection",
                "detailsUrl": "https://weatherkit.apple.com/alertDetails/index.html",
                "alerts": [
                    {
                        "id": "a9d1a2f0-6b0e-5c3a-8d7e-2f1f0d5f3c11",
                        "areaId": "gb001",
                        "areaName": "Greater London",
                        "certainty": "likely",
                        "countryCode": "GB",
                        "description": "Yellow Wind Warning",
                        "detailsUrl": "https://weatherkit.apple.com/alertDetails/index.html?id=1",
                        "effectiveTime": _apple(self.now - timedelta(hours=1)),
                        "expireTime": _apple(self.now + timedelta(hours=5)),
                        "severity": "severe",
                        "source": "Met Office",
                        "urgency": "expected",
                    }
                ],
            },
        }


def _apple(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Tfl:
    """`/Line/IDS/Status` and `/Line/ID/StopPoints`."""

    def __init__(self) -> None:
        self.status_calls = 0
        self.station_calls = Counter[str]()
        self.queries: list[dict[str, str]] = []
        self.states: dict[str, list[tuple[int, str, str | None]]] = {}
        """By line: severity code, its name, and the reason."""
        self.stations: dict[str, list[tuple[float, float]]] = {}
        self.broken_stations = set[str]()

    def answer(self, asked: Asked) -> Reply:
        _, _, lines, what = asked.path.split("/")
        self.queries.append(_query(asked))
        if what == "Status":
            self.status_calls += 1
            return json_reply(orjson.dumps([self._line(line) for line in lines.split(",")]))
        self.station_calls[lines] += 1
        if lines in self.broken_stations:
            return Reply(404)
        stops = [
            {"naptanId": f"940G{n}", "commonName": f"{lines} {n}", "lat": lat, "lon": lon}
            for n, (lat, lon) in enumerate(self.stations.get(lines, []))
        ]
        return json_reply(orjson.dumps(stops))

    def _line(self, line: str) -> dict[str, Any]:
        states = self.states.get(line, [(10, "Good Service", None)])
        return {
            "$type": "Tfl.Api.Presentation.Entities.Line, Tfl.Api.Presentation.Entities",
            "id": line,
            "name": line.title(),
            "modeName": "tube",
            "lineStatuses": [
                {
                    "id": 0,
                    "statusSeverity": code,
                    "statusSeverityDescription": name,
                    **({} if reason is None else {"reason": reason}),
                    "validityPeriods": [
                        {"fromDate": "2026-03-02T08:12:00Z", "toDate": "2026-03-03T01:29:00Z", "isNow": True}
                    ],
                }
                for code, name, reason in states
            ],
        }


class ListenBrainz:
    """`/1/user/NAME/playing-now` and `/1/user/NAME/listens`."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.playing: list[tuple[str, str, str]] = []
        self.listens: list[tuple[int, str, str, str]] = []

    def answer(self, asked: Asked) -> Reply:
        _, _, _, name, what = asked.path.split("/")
        self.calls[what] += 1
        if what == "playing-now":
            found = [{"playing_now": True, "track_metadata": _track(*each)} for each in self.playing]
        else:
            count = int(_query(asked)["count"])
            found = [
                {"listened_at": at, "track_metadata": _track(*each)} for at, *each in self.listens[:count]
            ]
        payload = {"count": len(found), "listens": found, "user_id": name}
        return json_reply(orjson.dumps({"payload": payload}))


def _track(artist: str, track: str, release: str) -> dict[str, Any]:
    return {"artist_name": artist, "track_name": track, "release_name": release, "additional_info": {}}
