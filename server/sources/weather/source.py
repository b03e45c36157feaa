"""The weather where the user is. One report serves everybody in a square of five kilometres."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from pydantic import BaseModel

from protocol.feed import ContextEntry
from protocol.ids import UserId
from server.engine.context import Context
from server.engine.source import Answer, FeedSource
from server.sources.location import LOCATION_ID, last_fix
from server.sources.provider import FeedProvider
from server.sources.services import Services, SourceOptions, WeatherKitKey
from server.sources.user import USER_ID, Units, UserSettings, user_settings
from server.sources.weather.grid import Square, square_of
from server.sources.weather.items import WEATHER_ID, Forecast, Wishes
from server.sources.weather.open_meteo import fetch_open_meteo
from server.sources.weather.report import WeatherReport
from server.sources.weather.settings import WeatherConfig, WeatherSettings
from server.sources.weather.weatherkit import TokenMaker, WeatherKitQuestion, fetch_weatherkit
from server.upstream.shared import Shared

__all__ = ["REFRESH_S", "WeatherBackend", "WeatherProvider", "WeatherSource"]

REFRESH_S: Final = 600.0
"""Forecasts are made a few times a day, what is measured now a few times an hour."""

# A little less than a refresh, so that somebody alone in their square gets something new each time.
_FRESH_S: Final = 0.9 * REFRESH_S
_MOST_SQUARES: Final = 5_000


class WeatherBackend:
    """Where the weather comes from, and what of it is known already: one for all users of a provider."""

    def __init__(self, options: SourceOptions, key: WeatherKitKey | None) -> None:
        self._options = options
        self._tokens = None if key is None else TokenMaker(key)
        self._forecasts: Shared[Hashable, Forecast] = Shared(
            fresh_s=_FRESH_S, failure_s=30.0, most=_MOST_SQUARES
        )

    async def forecast(self, services: Services, square: Square, settings: UserSettings) -> Forecast:
        """The weather of a square. Raises SourceFailure."""
        question = None if self._tokens is None else _question(settings)

        async def load(_: Forecast | None) -> Forecast:
            return Forecast(await self._ask(services, square, question))

        return await self._forecasts.get(services.clock, (square, question), load)

    async def _ask(
        self, services: Services, square: Square, question: WeatherKitQuestion | None
    ) -> WeatherReport:
        client, options = services.outside.client, self._options
        if self._tokens is None or question is None:
            return await fetch_open_meteo(client, options.open_meteo_url, square.centre)
        return await fetch_weatherkit(
            client, options.weatherkit_url, self._tokens, services.clock, square.centre, question
        )


def _question(settings: UserSettings) -> WeatherKitQuestion:
    region = settings.locale.replace("_", "-").split("-")[-1]
    country = region.upper() if len(region) == 2 and "-" in settings.locale else None
    return WeatherKitQuestion(zone=settings.zone.key, language=settings.language, country=country)


class WeatherSource(FeedSource):
    """One user's weather."""

    id = WEATHER_ID
    dependencies = (LOCATION_ID,)
    uses = (USER_ID,)
    refresh_every_s = REFRESH_S

    def __init__(self, config: WeatherConfig, backend: WeatherBackend, services: Services) -> None:
        self._config = config
        self._backend = backend
        self._services = services
        self._forecast: Forecast | None = None
        self._forecast_key: Hashable = None

    def input_key(self, ctx: Context) -> Hashable:
        square, settings = _square(ctx), user_settings(ctx)
        place = None if square is None else (square.row, square.column)
        return place, self._units(settings), settings.zone.key, settings.locale

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        square, settings = _square(ctx), user_settings(ctx)
        forecast = None
        if square is not None:
            forecast = await self._backend.forecast(self._services, square, settings)
        self._forecast, self._forecast_key = forecast, self.input_key(ctx)
        return () if forecast is None else forecast.context(self._units(settings))

    async def fetch_items(self, ctx: Context) -> Answer | None:
        return self.reconsider(ctx)

    def reconsider(self, ctx: Context) -> Answer | None:
        if self.input_key(ctx) != self._forecast_key:
            return None  # that of the new place is still to come
        if self._forecast is None:
            return Answer()
        config = self._config
        wishes = Wishes(self._units(user_settings(ctx)), config.hourly_limit, config.daily_limit)
        return self._forecast.answer(wishes, ctx.time)

    def _units(self, settings: UserSettings) -> Units:
        return self._config.units or settings.units


def _square(ctx: Context) -> Square | None:
    fix = last_fix(ctx)
    return None if fix is None else square_of(fix.lat, fix.lng)


class WeatherProvider(FeedProvider[WeatherConfig, BaseModel, WeatherSettings]):
    """Makes `freya.weather`."""

    source_id = WEATHER_ID
    name = "Weather"
    config_schema = WeatherConfig
    builds_at_once = True
    settings_schema = WeatherSettings

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._key = options.weatherkit_key
        self._backend = WeatherBackend(options, self._key)

    async def source_for_user(
        self, user: UserId, config: WeatherConfig, credentials: BaseModel | None, services: Services
    ) -> WeatherSource:
        return WeatherSource(config, self._backend, services)

    def configure(self, settings: WeatherSettings | None) -> None:
        key = self._options.weatherkit_key if settings is None else settings.key()
        if key != self._key:
            self._key = key
            self._backend = WeatherBackend(self._options, key)
