"""The built-in providers, in the order in which their items come where nothing else decides."""

from __future__ import annotations

from pydantic import BaseModel

from protocol.ids import SourceId
from server.sources.calendar import CalendarProvider
from server.sources.clock import ClockProvider
from server.sources.inbox import InboxProvider
from server.sources.location import LocationProvider
from server.sources.music import MusicProvider
from server.sources.news import NewsProvider
from server.sources.provider import AnyProvider
from server.sources.reminders import RemindersProvider
from server.sources.services import SourceOptions
from server.sources.synthetic import SyntheticProvider
from server.sources.tfl import TflProvider, TflSettings
from server.sources.user import UserProvider
from server.sources.weather import WeatherProvider, WeatherSettings

__all__ = ["builtin_providers", "environment_settings"]


def builtin_providers(options: SourceOptions) -> tuple[AnyProvider, ...]:
    """One of each, made anew: a process has one set."""
    everyday: tuple[AnyProvider, ...] = (
        UserProvider(),
        LocationProvider(),
        ClockProvider(),
        InboxProvider(),
        RemindersProvider(),
        CalendarProvider(),
        WeatherProvider(options),
        TflProvider(options),
        NewsProvider(),
        MusicProvider(options),
    )
    return (*everyday, SyntheticProvider()) if options.synthetic else everyday


def environment_settings(options: SourceOptions) -> dict[SourceId, BaseModel]:
    """The providers' settings that hold where an operator has stored none: those of the environment."""
    settings: dict[SourceId, BaseModel] = {}
    if options.weatherkit_key is not None:
        settings[WeatherProvider.source_id] = WeatherSettings.of(options.weatherkit_key)
    if options.tfl_api_key is not None:
        settings[TflProvider.source_id] = TflSettings.model_validate({"apiKey": options.tfl_api_key})
    return settings
