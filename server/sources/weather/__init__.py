"""freya.weather: the weather where the user is, now, in the next hours and days, and warnings of it."""

from __future__ import annotations

from server.sources.weather.settings import WeatherConfig, WeatherSettings
from server.sources.weather.source import WeatherProvider, WeatherSource

__all__ = ["WeatherConfig", "WeatherProvider", "WeatherSettings", "WeatherSource"]
