"""The `type` of items that others know by it: who makes one and who looks for it name it from here."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CALENDAR_EVENT",
    "CLOCK_DATE",
    "CLOCK_GREETING",
    "CLOCK_SUN",
    "MUSIC_LISTEN",
    "MUSIC_PLAYING",
    "NEWS_ARTICLE",
    "REMINDER",
    "SYNTHETIC",
    "TRANSIT_STATUS",
    "WEATHER_ALERT",
    "WEATHER_CURRENT",
    "WEATHER_DAILY",
    "WEATHER_HOURLY",
]

CALENDAR_EVENT: Final = "caldav-event"
CLOCK_DATE: Final = "clock-date"
CLOCK_GREETING: Final = "clock-greeting"
CLOCK_SUN: Final = "clock-sun"
MUSIC_LISTEN: Final = "music-listen"
MUSIC_PLAYING: Final = "music-now-playing"
NEWS_ARTICLE: Final = "news-article"
REMINDER: Final = "reminder"
SYNTHETIC: Final = "synthetic"
TRANSIT_STATUS: Final = "tfl-status"
WEATHER_ALERT: Final = "weather-alert"
WEATHER_CURRENT: Final = "weather-current"
WEATHER_DAILY: Final = "weather-daily"
WEATHER_HOURLY: Final = "weather-hourly"
