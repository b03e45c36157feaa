"""One user's calendars: today's events, and those of a few days after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from protocol.feed import ContextEntry, FeedItem, Signals
from protocol.ids import UserId
from server.engine.context import Context
from server.engine.source import Answer, FeedSource, Unauthorized
from server.sources.calendar.config import CalendarConfig, CalendarCredentials, https_of
from server.sources.calendar.dav import DavAccount
from server.sources.calendar.items import CALENDAR_ID, Entry, context_of, item_of
from server.sources.calendar.moments import Window, signals_at
from server.sources.calendar.reading import (
    AccountReader,
    CalendarReader,
    Question,
    UrlReader,
    new_expansions,
)
from server.sources.provider import FeedProvider
from server.sources.services import Services
from server.sources.user import USER_ID, user_settings
from server.sources.zones import zone

__all__ = ["CalendarProvider", "CalendarSource"]

# All calendars of an account together; a feed has room for 2,000 items of all sources.
_ITEMS_MAX: Final = 1000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Held:
    """What was read, and for which days."""

    entries: tuple[Entry, ...]
    question: Question


class CalendarSource(FeedSource):
    """Reads one day more than it shows, so that at midnight the next day is there already."""

    id = CALENDAR_ID
    uses = (USER_ID,)
    # A large calendar behind a slow line, and its reading.
    timeout_s = 45.0

    def __init__(self, config: CalendarConfig, reader: CalendarReader) -> None:
        self._config = config
        self._reader = reader
        self._held: _Held | None = None
        self._items: dict[str, tuple[Entry, Signals, FeedItem]] = {}

    def input_key(self, ctx: Context) -> str:
        return self._zone(ctx).key

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        where = self._zone(ctx)
        window = Window.at(ctx.time, where, self._config.look_ahead_days)
        question = Question(window.begin, window.end + timedelta(days=1), where.key)
        entries = _in_order(await self._reader.read(question))
        self._held = _Held(entries, question)
        return (context_of(_shown(entries, window), ctx.time, window),)

    async def fetch_items(self, ctx: Context) -> Answer | None:
        return self._answer(ctx)

    def reconsider(self, ctx: Context) -> Answer | None:
        answer = self._answer(ctx)
        if answer is not None and self._held is not None and self.attached:
            window = Window.at(ctx.time, self._zone(ctx), self._config.look_ahead_days)
            self.handle.push_context((context_of(_shown(self._held.entries, window), ctx.time, window),))
            if window.begin != self._held.question.begin:
                self.handle.request_refresh()  # a new day: one more is to be read ahead
        return answer

    def _answer(self, ctx: Context) -> Answer | None:
        where, held = self._zone(ctx), self._held
        if held is None or held.question.zone != where.key:
            return None  # days of another zone, until they have been asked for
        window = Window.at(ctx.time, where, self._config.look_ahead_days)
        changes: list[datetime] = [window.tomorrow]
        items: dict[str, tuple[Entry, Signals, FeedItem]] = {}
        for entry in _shown(held.entries, window)[:_ITEMS_MAX]:
            signals, changes_at = signals_at(entry.event, ctx.time, window.tomorrow)
            made = self._item(entry, signals, where)
            if made is not None:
                items.setdefault(made.id, (entry, signals, made))
                changes += [changes_at] if changes_at is not None else []
        self._items = items
        return Answer.of([item for _, _, item in items.values()], min(changes))

    def _item(self, entry: Entry, signals: Signals, where: ZoneInfo) -> FeedItem | None:
        kept = self._items.get(f"{CALENDAR_ID}/{entry.local_id}")
        if kept is not None and kept[:2] == (entry, signals):
            return kept[2]
        try:
            return item_of(entry, signals, where)
        except ValueError:
            # Something in it cannot be on the wire: it costs this event alone.
            _log.warning("calendar_event_unshowable")
            return None

    def _zone(self, ctx: Context) -> ZoneInfo:
        own = self._config.time_zone
        return user_settings(ctx).zone if own is None else zone(own)


def _in_order(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    def place(entry: Entry) -> tuple[datetime, datetime, str, str]:
        return entry.event.start, entry.event.end, entry.event.title or "", entry.local_id

    return tuple(sorted(entries, key=place))


def _shown(entries: Sequence[Entry], window: Window) -> list[Entry]:
    return [entry for entry in entries if entry.event.touches(window.begin, window.end)]


class CalendarProvider(FeedProvider[CalendarConfig, CalendarCredentials]):
    """Makes `freya.calendar`."""

    source_id = CALENDAR_ID
    name = "Calendar"
    config_schema = CalendarConfig
    builds_at_once = True
    credentials_schema = CalendarCredentials
    credential_targets = frozenset({"serverUrl"})

    def __init__(self) -> None:
        self._expansions = new_expansions()

    async def source_for_user(
        self,
        user: UserId,
        config: CalendarConfig,
        credentials: CalendarCredentials | None,
        services: Services,
    ) -> CalendarSource:
        if config.url is not None:
            return CalendarSource(config, UrlReader(services, https_of(config.url), self._expansions))
        if credentials is None:
            raise Unauthorized("this account needs its password")
        return CalendarSource(config, AccountReader(services, _account(config, credentials, services)))

    async def validate_credentials(
        self, user: UserId, config: CalendarConfig, credentials: CalendarCredentials, services: Services
    ) -> None:
        if config.server_url is not None:
            await _account(config, credentials, services).check()


def _account(config: CalendarConfig, credentials: CalendarCredentials, services: Services) -> DavAccount:
    assert config.server_url is not None
    assert config.username is not None  # the config was validated
    password = credentials.password.get_secret_value()
    return DavAccount(services.outside, services.clock, config.server_url, config.username, password)
