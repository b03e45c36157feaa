"""How near an event is, and when that changes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from protocol.feed import Signals
from server.reading.values import Event
from server.sources.zones import local_midnight

__all__ = ["Window", "goes_at", "signals_at"]

_CANCELLED: Final = Signals(0.1, "ambient")
_ALL_DAY: Final = Signals(0.3, "ambient")
_ENDED: Final = Signals(0.2, "ambient")
_RUNNING: Final = Signals(0.8, "imminent")
_SOON: Final = Signals(0.9, "imminent")
_NEAR: Final = Signals(0.7, "upcoming")
_TODAY: Final = Signals(0.5, "upcoming")
_LATER: Final = Signals(0.2, "ambient")

_SOON_FROM: Final = timedelta(minutes=30)
_NEAR_FROM: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Window:
    """The days that are shown: from midnight to midnight on the clocks of a zone, also when they change."""

    begin: datetime
    tomorrow: datetime
    end: datetime

    @classmethod
    def at(cls, now: datetime, zone: ZoneInfo, days_ahead: int) -> Window:
        """Today and so many days after it."""
        today = now.astimezone(zone).date()

        def midnight(days: int) -> datetime:
            return local_midnight(_plus(today, days), zone)

        return cls(midnight(0), midnight(1), midnight(1 + days_ahead))


def signals_at(event: Event, now: datetime, tomorrow: datetime) -> tuple[Signals, datetime | None]:
    """How much the event matters now, and when that is going to change, if it is."""
    if event.status == "cancelled":
        return _CANCELLED, None
    if event.days is not None:
        return _ALL_DAY, None
    if event.end <= now:
        return _ENDED, None
    if event.start <= now:
        return _RUNNING, event.end
    if event.start - _SOON_FROM <= now:
        return _SOON, event.start
    if event.start - _NEAR_FROM <= now:
        return _NEAR, event.start - _SOON_FROM
    if event.start < tomorrow:
        return _TODAY, event.start - _NEAR_FROM
    return _LATER, min(event.start - _NEAR_FROM, tomorrow)


def goes_at(event: Event, zone: ZoneInfo) -> datetime:
    """When a shown event goes: at the end of the day in which it ends."""
    last_moment = max(event.start, event.end - timedelta(microseconds=1))
    return local_midnight(_plus(last_moment.astimezone(zone).date(), 1), zone)


def _plus(day: date, days: int) -> date:
    return day + timedelta(days=days)
