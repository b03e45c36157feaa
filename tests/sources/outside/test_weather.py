"""freya.weather, from both of its services."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import Signals
from protocol.ids import SourceId
from server.sources.builtin import environment_settings
from server.sources.services import SourceOptions, WeatherKitKey
from server.sources.tfl import TflSettings
from server.sources.user import UserConfig
from server.sources.weather import WeatherConfig, WeatherSettings
from server.sources.weather.conditions import (
    alert_signals,
    condition_of_wmo,
    condition_signals,
    precipitation_of_wmo,
)
from server.sources.weather.grid import square_of
from server.sources.weather.units import Scale
from server.sources.weather.weatherkit import TokenMaker
from tests.sources.outside.conftest import BERLIN, LONDON, Street, Town
from tests.support.clock import START, TestClock
from tests.support.standins import OpenMeteo, WeatherKit
from tests.support.web import Reply, open_web

NIGHT = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)


@cache
def apple_key() -> tuple[WeatherKitKey, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return WeatherKitKey(private.decode(), "ABC123DEFG", "DEF123GHIJ", "com.example.weather"), public.decode()


async def lone(town: Town, url: str, **config: object) -> Street:
    """A user in London with the weather of Open-Meteo."""
    street = town.with_options(open_meteo_url=url).street()
    street.at(*LONDON)
    await street.add("freya.weather", dict(config))  # pyright: ignore[reportArgumentType] -- JSON by its keywords
    return street


# Open-Meteo


async def test_the_weather_of_now_has_every_figure_in_metric_units(town: Town) -> None:
    async with open_web(OpenMeteo().answer) as web:
        street = await lone(town, web.url)
        item = street.item("weather-current")
        assert item.id == "freya.weather/current"
        assert item.timestamp == START
        assert item.data == {
            "units": "metric",
            "provider": "Open-Meteo",
            "conditionCode": "PartlyCloudy",
            "daylight": True,
            "humidity": 0.71,
            "precipitationIntensity": 1.2,  # 0.3 mm in a quarter of an hour
            "pressure": 1013,
            "pressureTrend": "rising",  # 1010 hPa three hours ago
            "temperature": 11.4,
            "temperatureApparent": 9.2,
            "uvIndex": 1.5,
            "visibility": 24.1,
            "windDirection": 225,
            "windGust": 36.0,
            "windSpeed": 18.0,
        }
        assert item.signals == Signals(0.5, "ambient")
        assert item.slots is not None
        assert list(item.slots) == ["insight"]


async def test_the_units_are_those_of_the_config_or_else_of_the_user(town: Town) -> None:
    async with open_web(OpenMeteo().answer) as web:
        town = town.with_options(open_meteo_url=web.url)
        american = town.street(settings=UserConfig(units="imperial"))
        stubborn = town.street("bob", settings=UserConfig(units="imperial"))
        for street, config in ((american, {}), (stubborn, {"units": "metric"})):
            street.at(*LONDON)
            await street.add("freya.weather", config)
        data = american.item("weather-current").data
        assert (data["units"], data["temperature"], data["windSpeed"]) == ("imperial", 52.5, 11.2)
        assert (data["visibility"], data["pressure"], data["precipitationIntensity"]) == (15.0, 29.9, 0.05)
        assert stubborn.item("weather-current").data["temperature"] == 11.4
        context = american.context("freya.weather", "weather")
        assert context == {
            "units": "imperial",
            "temperature": 52.5,
            "temperatureApparent": 48.6,
            "condition": "PartlyCloudy",
            "humidity": 0.71,
            "uvIndex": 1.5,
            "windSpeed": 11.2,
            "daylight": True,
        }


async def test_hours_begin_with_the_present_one_and_move_on_with_the_clock(town: Town) -> None:
    async with open_web(OpenMeteo().answer) as web:
        street = await lone(town, web.url, hourlyLimit=3)
        assert street.json("weather-hourly")["hours"][0] == {
            "forecastTime": "2026-03-02T09:00:00Z",
            "conditionCode": "Rain",
            "daylight": True,
            "humidity": 0.7,
            "precipitationAmount": 0.5,
            "precipitationChance": 0.4,
            "precipitationType": "rain",
            "temperature": 10.3,
            "temperatureApparent": 8.3,
            "uvIndex": 1.5,
            "windDirection": 220,
            "windGust": 40.0,
            "windSpeed": 20.0,
        }
        calls = len(web.requests)
        street.engine.set_listening(False)
        await street.to(START + timedelta(hours=1, seconds=1))
        hours = street.json("weather-hourly")["hours"]
        assert [hour["forecastTime"] for hour in hours] == [
            f"2026-03-02T{hour}:00:00Z" for hour in (10, 11, 12)
        ]
        assert len(web.requests) == calls


async def test_days_are_those_of_the_place_and_its_sun(town: Town) -> None:
    tokyo = OpenMeteo(offset_s=9 * 3600)
    async with open_web(tokyo.answer) as web:
        street = await lone(town, web.url, dailyLimit=2)
        item = street.item("weather-daily")
        assert item.timestamp == datetime(2026, 3, 1, 15, tzinfo=UTC)
        days = street.json("weather-daily")["days"]
        assert len(days) == 2
        assert days[0] == {
            "forecastDate": "2026-03-02",
            "conditionCode": "Rain",
            "maxUvIndex": 2.0,
            "precipitationAmount": 2.5,
            "precipitationChance": 0.55,
            "precipitationType": "rain",
            "snowfallAmount": 7.0,
            "sunrise": "2026-03-01T21:45:00Z",
            "sunset": "2026-03-02T08:40:00Z",
            "temperatureMax": 12.0,
            "temperatureMin": 4.0,
        }


async def test_limits_of_zero_show_nothing(town: Town) -> None:
    async with open_web(OpenMeteo().answer) as web:
        street = await lone(town, web.url, hourlyLimit=0, dailyLimit=0)
        assert [item.type for item in street.items] == ["weather-current"]


async def test_without_a_place_there_is_no_weather_and_nobody_is_asked(town: Town) -> None:
    meteo = OpenMeteo()
    async with open_web(meteo.answer) as web:
        street = town.with_options(open_meteo_url=web.url).street()
        await street.add("freya.weather")
        assert (street.items, street.error("freya.weather"), meteo.calls) == ((), None, 0)
        street.at(*LONDON)
        await street.settle()
        assert street.of_type("weather-current")


async def test_a_step_within_the_square_costs_nothing_and_a_journey_shows_the_new_place(town: Town) -> None:
    meteo = OpenMeteo()
    async with open_web(meteo.answer) as web:
        street = await lone(town, web.url)
        for n in range(20):
            street.at(LONDON[0] + n * 1e-5, LONDON[1])
            await street.settle()
        assert meteo.calls == 1
        meteo.temperature = -3.0
        street.at(*BERLIN)
        await street.settle()
        assert meteo.calls == 2
        assert street.item("weather-current").data["temperature"] == -3.0
        assert len(meteo.places) == 2


async def test_what_upstream_learns_is_the_middle_of_a_square_and_no_position(town: Town) -> None:
    meteo = OpenMeteo()
    async with open_web(meteo.answer) as web:
        await lone(town, web.url)
        ((lat, lng),) = meteo.places
        assert (lat, lng) != (str(LONDON[0]), str(LONDON[1]))
        assert abs(float(lat) - LONDON[0]) < 0.03
        assert all(len(text.partition(".")[2]) <= 3 for text in (lat, lng))


async def test_the_old_weather_never_stands_beside_a_new_place(town: Town) -> None:
    meteo = OpenMeteo()
    failing = False
    async with open_web(lambda asked: Reply(500) if failing else meteo.answer(asked)) as web:
        street = await lone(town, web.url)
        failing = True
        street.at(*BERLIN)
        await street.settle()
        assert street.items == ()
        error = street.error("freya.weather")
        assert error is not None
        assert (error.code, error.message) == ("unreachable", "Open-Meteo has a problem (500)")


async def test_a_failure_at_the_same_place_leaves_the_weather_standing(town: Town) -> None:
    meteo = OpenMeteo()
    failing = False
    async with open_web(lambda asked: Reply(503) if failing else meteo.answer(asked)) as web:
        street = await lone(town, web.url)
        failing = True
        await street.pass_time(670)
        assert street.error("freya.weather") is not None
        assert street.item("weather-current").data["temperature"] == 11.4
        # Also past the hour, where it is asked to think again.
        await street.to(START + timedelta(minutes=59, seconds=30))
        assert len(street.items) == 3
        await street.to(START + timedelta(minutes=65))
        assert street.items == ()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Bad gateway</html>",
        b"{}",
        b'{"current": {}}',
        b'{"current": {"time": "today"}}',
        b'{"current": {"time": "2026-03-02T09:00", "temperature_2m": "warm"}}',
        b'{"current": {"time": "2026-03-02T09:00", "temperature_2m": 1e300}}',
        b'{"current": {"time": "2026-03-02T09:00"}, "utc_offset_seconds": 999999999}',
        b'{"hourly": {"time": ["0001-01-01T00:00"], "temperature_2m": [1]}, "utc_offset_seconds": 3600}',
        b'{"current": {"time": "2026-03-02T09:00", "temperature_2m": NaN}}',
        b'{"current": ',
        b"[]",
        b"",
    ],
)
async def test_an_answer_that_makes_no_sense_is_said_to_make_none(town: Town, body: bytes) -> None:
    async with open_web(lambda asked: Reply(200, body)) as web:
        street = await lone(town, web.url)
        error = street.error("freya.weather")
        assert error is not None
        assert (error.code, error.message) == (
            "badAnswer",
            "Open-Meteo sent an answer that makes no sense",
        )


async def test_figures_that_are_missing_are_null_and_the_rest_is_shown(town: Town) -> None:
    meteo = OpenMeteo()
    meteo.change = {
        "current": {"time": "2026-03-02T09:00", "temperature_2m": 8.0, "weather_code": 42},
        "hourly": {"time": ["2026-03-02T09:00", "2026-03-02T10:00"], "temperature_2m": [8.0]},
        "daily": {"time": []},
    }
    async with open_web(meteo.answer) as web:
        street = await lone(town, web.url)
        current = street.item("weather-current").data
        assert (current["temperature"], current["conditionCode"], current["pressureTrend"]) == (8, None, None)
        assert [hour["temperature"] for hour in street.json("weather-hourly")["hours"]] == [8, None]
        assert not street.of_type("weather-daily")


async def test_a_limit_of_the_service_is_kept_to(town: Town) -> None:
    async with open_web(lambda asked: Reply(429, b"", {"retry-after": "300"})) as web:
        street = await lone(town, web.url)
        error = street.error("freya.weather")
        assert error is not None
        assert (error.code, error.message) == ("rateLimited", "Open-Meteo asks for fewer requests")
        await street.pass_time(290, quiet_s=0.002)
        assert len(web.requests) == 1


async def test_refreshes_change_only_what_changed(town: Town) -> None:
    meteo = OpenMeteo()
    async with open_web(meteo.answer) as web:
        street = await lone(town, web.url)
        before = street.items
        await street.pass_time(670)
        assert meteo.calls == 2
        assert all(new is old for new, old in zip(street.items, before, strict=True))


# WeatherKit


async def at_apple(town: Town, url: str, locale: str = "en-GB") -> Street:
    key, _ = apple_key()
    town = town.with_options(weatherkit_url=url, weatherkit_key=key)
    street = town.street(settings=UserConfig.model_validate({"locale": locale, "timeZone": "Europe/London"}))
    street.at(*LONDON)
    await street.add("freya.weather")
    return street


async def test_weatherkit_gives_the_same_items_in_the_same_units(town: Town) -> None:
    apple = WeatherKit(apple_key()[1])
    async with open_web(apple.answer) as web:
        street = await at_apple(town, web.url)
        current = street.item("weather-current")
        assert current.data == {
            "units": "metric",
            "provider": "Apple Weather",
            "conditionCode": "Thunderstorm",
            "daylight": True,
            "humidity": 0.71,
            "precipitationIntensity": 1.2,
            "pressure": 1013,
            "pressureTrend": "falling",
            "temperature": 11.4,
            "temperatureApparent": 9.2,
            "uvIndex": 2,
            "visibility": 24.1,  # it comes in metres
            "windDirection": 225,
            "windGust": 36.0,
            "windSpeed": 18.0,
        }
        assert current.signals == Signals(0.65, "upcoming")
        hours = street.json("weather-hourly")["hours"]
        assert (len(hours), hours[0]["forecastTime"]) == (12, "2026-03-02T09:00:00Z")
        days = street.json("weather-daily")["days"]
        assert (len(days), days[0]["forecastDate"]) == (7, "2026-03-02")
        assert street.item("weather-daily").signals == Signals(0.35, "upcoming")


async def test_a_warning_is_an_item_until_it_expires(town: Town) -> None:
    apple = WeatherKit(apple_key()[1])
    async with open_web(apple.answer) as web:
        street = await at_apple(town, web.url)
        alert = street.item("weather-alert")
        assert alert.data == {
            "provider": "Apple Weather",
            "alertId": "a9d1a2f0-6b0e-5c3a-8d7e-2f1f0d5f3c11",
            "areaName": "Greater London",
            "certainty": "likely",
            "description": "Yellow Wind Warning",
            "detailsUrl": "https://weatherkit.apple.com/alertDetails/index.html?id=1",
            "effectiveTime": "2026-03-02T08:00:00Z",
            "expireTime": "2026-03-02T14:00:00Z",
            "severity": "severe",
            "source": "Met Office",
            "urgency": "expected",
        }
        assert alert.signals == Signals(0.9, "imminent")
        assert alert.expires_at == START + timedelta(hours=5)
        street.engine.set_listening(False)
        await street.to(START + timedelta(hours=5, seconds=1))
        assert not street.of_type("weather-alert")


async def test_weatherkit_is_asked_for_the_user_s_country_language_and_days(town: Town) -> None:
    apple = WeatherKit(apple_key()[1])
    async with open_web(apple.answer) as web:
        await at_apple(town, web.url)
        (query,) = apple.queries
        assert query == {
            "dataSets": "currentWeather,forecastHourly,forecastDaily,weatherAlerts",
            "timezone": "Europe/London",
            "country": "GB",
        }
        assert apple.paths[0].startswith("/api/v1/weather/en/51.")


async def test_a_language_without_a_country_asks_for_no_warnings(town: Town) -> None:
    apple = WeatherKit(apple_key()[1])
    async with open_web(apple.answer) as web:
        await at_apple(town, web.url, locale="de")
        assert "country" not in apple.queries[0]


async def test_a_token_is_signed_once_an_hour_and_not_for_every_call(clock: TestClock) -> None:
    tokens = TokenMaker(apple_key()[0])
    first = tokens.token(clock.now())
    assert tokens.token(clock.now() + timedelta(minutes=54)) == first
    assert tokens.token(clock.now() + timedelta(minutes=56)) != first


async def test_a_refused_operator_key_is_no_matter_of_the_user_s_credentials(town: Town) -> None:
    async with open_web(lambda asked: Reply(401, b'{"reason": "hush"}')) as web:
        street = await at_apple(town, web.url)
        error = street.error("freya.weather")
        assert error is not None
        assert (error.code, error.message) == ("config", "Apple Weather refuses the server's key")


async def test_hostile_texts_of_a_warning_are_cut_and_its_link_is_one_of_the_web(town: Town) -> None:
    apple = WeatherKit(apple_key()[1])
    alert = {
        "id": "x" * 5000,
        "description": "a\0" * 5000,
        "detailsUrl": "javascript:alert(1)",
        "effectiveTime": "2026-03-02T08:00:00Z",
        "severity": "Apocalyptic",
    }
    apple.change = {"weatherAlerts": {"alerts": [alert, alert]}}
    async with open_web(apple.answer) as web:
        street = await at_apple(town, web.url)
        item = street.item("weather-alert")
        assert len(item.id) < 60
        assert item.data["detailsUrl"] is None
        assert item.data["description"] == "a" * 500
        assert item.signals == alert_signals("minor")


async def test_an_operator_may_bring_a_key_and_take_it_away_again(town: Town) -> None:
    key, public = apple_key()
    meteo, apple = OpenMeteo(), WeatherKit(public)
    async with open_web(meteo.answer) as free, open_web(apple.answer) as paid:
        town = town.with_options(open_meteo_url=free.url, weatherkit_url=paid.url)
        provider = town.providers["freya.weather"]
        settings = WeatherSettings.model_validate(
            {
                "privateKey": key.private_key,
                "keyId": key.key_id,
                "teamId": key.team_id,
                "serviceId": key.service_id,
            }
        )
        seen: list[object] = []
        for given in (None, settings, None):
            provider.configure(given)
            street = town.street()
            street.at(*LONDON)
            await street.add("freya.weather")
            seen.append(street.item("weather-current").data["provider"])
        assert seen == ["Open-Meteo", "Apple Weather", "Open-Meteo"]


@pytest.mark.parametrize(
    "key", ["", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_a_key_that_cannot_sign_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="P-256") as caught:
        WeatherSettings.model_validate({"privateKey": key, "keyId": "a", "teamId": "b", "serviceId": "c"})
    assert not key or key not in str(caught.value)


def test_keys_of_the_environment_are_settings_that_an_operator_can_see_and_replace() -> None:
    key, _ = apple_key()
    options = SourceOptions(weatherkit_key=key, tfl_api_key="tube-key")
    settings = environment_settings(options)
    weather, tfl = settings[SourceId("freya.weather")], settings[SourceId("freya.tfl")]
    assert isinstance(weather, WeatherSettings)
    assert isinstance(tfl, TflSettings)
    assert (weather.key(), tfl.api_key.get_secret_value()) == (key, "tube-key")
    assert environment_settings(SourceOptions()) == {}
    for hidden in (key.private_key, "tube-key"):
        assert hidden not in repr((options, settings))


# Pure parts


@pytest.mark.parametrize(
    ("code", "condition", "precipitation"),
    [
        (0, "Clear", "clear"),
        (3, "Cloudy", "clear"),
        (48, "Fog", "clear"),
        (51, "Drizzle", "rain"),
        (57, "FreezingDrizzle", "sleet"),
        (65, "HeavyRain", "rain"),
        (67, "FreezingRain", "sleet"),
        (73, "Snow", "snow"),
        (86, "HeavySnow", "snow"),
        (95, "Thunderstorm", "rain"),
        (99, "SevereThunderstorm", "hail"),
        (4711, None, None),
        (None, None, None),
    ],
)
def test_codes_of_the_wmo_have_weatherkit_s_names(
    code: int | None, condition: str | None, precipitation: str | None
) -> None:
    assert (condition_of_wmo(code), precipitation_of_wmo(code)) == (condition, precipitation)


@pytest.mark.parametrize(
    ("base", "conditions", "signals"),
    [
        (0.5, ["Clear"], Signals(0.5, "ambient")),
        (0.5, ["HeavyRain"], Signals(0.65, "upcoming")),
        (0.5, ["Tornado"], Signals(0.8, "imminent")),
        (0.3, ["Clear", "Clear", "HeavySnow"], Signals(0.35, "upcoming")),
        (0.2, ["Clear", "Blizzard"], Signals(0.35, "imminent")),
        (0.2, [None], Signals(0.2, "ambient")),
        (0.9, ["Hail"], Signals(1.0, "imminent")),
    ],
)
def test_severe_weather_matters_more(base: float, conditions: list[str | None], signals: Signals) -> None:
    assert condition_signals(base, *conditions) == signals


places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(places)
def test_every_place_is_in_a_square_whose_middle_is_near(place: tuple[float, float]) -> None:
    square = square_of(*place)
    lat, lng = square.centre
    assert -90 <= lat <= 90
    assert -180 <= lng <= 180
    assert abs(lat - place[0]) < 0.024
    # The middle of a square is in that square, so that asking again leads to the same one.
    assert square_of(lat, lng) == square or abs(lat) > 89.9


@given(places)
def test_both_sides_of_the_date_line_are_one_meridian(place: tuple[float, float]) -> None:
    assert square_of(place[0], 180.0) == square_of(place[0], -180.0)


@given(st.floats(-100, 100))
def test_imperial_figures_are_the_metric_ones_in_other_words(value: float) -> None:
    scale = Scale("imperial")
    fahrenheit = scale.temperature(value)
    assert fahrenheit is not None
    assert fahrenheit == pytest.approx(value * 1.8 + 32, abs=0.051)
    assert Scale("metric").temperature(value) == round(value, 1)
    assert scale.speed(None) is None


def test_a_config_has_bounds() -> None:
    for wrong in (
        {"hourlyLimit": -1},
        {"hourlyLimit": 49},
        {"dailyLimit": 11},
        {"units": "kelvin"},
        {"x": 1},
    ):
        with pytest.raises(ValueError):
            WeatherConfig.model_validate(wrong)
