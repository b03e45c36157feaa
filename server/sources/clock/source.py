"""freya.clock: a greeting, the date, and the sun where a location is known. It needs nothing from outside, so
that a fresh feed is never empty."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, Field

from protocol.feed import FeedItem
from protocol.ids import SourceId, UserId
from protocol.times import to_wire
from server.engine.context import Context
from server.engine.source import Answer, FeedSource
from server.sources.clock.sun import SunTimes, sun_times
from server.sources.clock.texts import Texts, texts_for
from server.sources.day import PartOfDay, PartSpan, next_midnight, span_at
from server.sources.item_types import CLOCK_DATE, CLOCK_GREETING, CLOCK_SUN
from server.sources.location import LOCATION_ID, last_fix
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services
from server.sources.user import USER_ID, UserSettings, user_settings
from server.sources.zones import local_midnight

__all__ = ["ClockConfig", "ClockProvider", "ClockSource"]

_ID: Final = SourceId("freya.clock")


class ClockConfig(ConfigModel):
    """What of it is shown."""

    greeting: bool = Field(default=True, title="Greeting", description="Good morning, and so on.")
    date: bool = Field(default=True, title="Date", description="Today, in your language and time zone.")
    sun: bool = Field(
        default=True, title="Sun", description="Sunrise and sunset, where your location is known."
    )


class ClockSource(FeedSource):
    """All of it follows from the time, the user's settings and their place.

    Its items carry no signals: they are there, whatever the time of day hides of what can wait.
    """

    id = _ID
    uses = (USER_ID, LOCATION_ID)
    refresh_every_s = 0
    answers_at_once = True

    def __init__(self, config: ClockConfig) -> None:
        self._config = config

    def input_key(self, ctx: Context) -> Hashable:
        settings = user_settings(ctx)
        return settings.zone.key, settings.locale, _place(ctx)

    async def fetch_items(self, ctx: Context) -> Answer:
        return self.reconsider(ctx)

    def reconsider(self, ctx: Context) -> Answer:
        settings = user_settings(ctx)
        span, today = span_at(ctx.time, settings.zone), ctx.time.astimezone(settings.zone).date()
        # Midnight is within the night, so both ends count.
        changes_at = min(span.end, next_midnight(today, settings.zone))
        return Answer(tuple(self._items(ctx, settings, span, today)), changes_at)

    def _items(self, ctx: Context, settings: UserSettings, span: PartSpan, today: date) -> Iterator[FeedItem]:
        midnight = local_midnight(today, settings.zone)
        if self._config.greeting:
            yield _greeting(texts_for(settings.locale), span.part, span.begin)
        if self._config.date:
            yield _date(texts_for(settings.locale), today, midnight, settings.zone.key)
        place = _place(ctx)
        if self._config.sun and place is not None:
            yield self._sun(settings, sun_times(today, *place, settings.zone), today, midnight)

    def _sun(self, settings: UserSettings, sun: SunTimes, today: date, midnight: datetime) -> FeedItem:
        data = {
            "date": today.isoformat(),
            "sunrise": None if sun.sunrise is None else to_wire(sun.sunrise),
            "sunset": None if sun.sunset is None else to_wire(sun.sunset),
            "polar": sun.polar,
            "timeZone": settings.zone.key,
        }
        return self.item("sun", type=CLOCK_SUN, timestamp=midnight, data=data)


# Items follow from the hour, the language and the zone: whoever has the same shares one object. As many as
# there are zones and languages in use.
@lru_cache(maxsize=2048)
def _greeting(texts: Texts, part: PartOfDay, since: datetime) -> FeedItem:
    data = {"text": texts.greeting(part), "partOfDay": part.value, "language": texts.tag}
    return _item("greeting", CLOCK_GREETING, since, data)


@lru_cache(maxsize=2048)
def _date(texts: Texts, today: date, midnight: datetime, zone: str) -> FeedItem:
    data = {
        "text": texts.date(today),
        "date": today.isoformat(),
        "timeZone": zone,
        "language": texts.tag,
    }
    return _item("date", CLOCK_DATE, midnight, data)


def _item(local_id: str, kind: str, timestamp: datetime, data: Mapping[str, object]) -> FeedItem:
    return FeedItem.make(id=f"{_ID}/{local_id}", source_id=_ID, type=kind, timestamp=timestamp, data=data)


def _place(ctx: Context) -> tuple[float, float] | None:
    """Where the user is, to a tenth of a degree: the sun is half a minute off at most, and nobody's steps
    from one room to the next make a new item."""
    fix = last_fix(ctx)
    return None if fix is None else (round(fix.lat, 1), round(fix.lng, 1))


class ClockProvider(FeedProvider[ClockConfig]):
    """Makes `freya.clock`."""

    source_id = _ID
    name = "Clock"
    config_schema = ClockConfig
    builds_at_once = True
    default_row = True

    async def source_for_user(
        self, user: UserId, config: ClockConfig, credentials: BaseModel | None, services: Services
    ) -> ClockSource:
        return ClockSource(config)
