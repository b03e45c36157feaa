"""freya.user: where and how the user lives. No items: other sources read it as context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import orjson
from pydantic import BaseModel, Field

from protocol.feed import ContextEntry, ContextKey, context_key_bytes
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.context import Context
from server.engine.source import FeedSource
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services
from server.sources.zones import TimeZoneName, zone

__all__ = [
    "USER_ID",
    "USER_KEY",
    "Units",
    "UserConfig",
    "UserProvider",
    "UserSettings",
    "UserSource",
    "user_settings",
]

USER_ID: Final = SourceId("freya.user")
USER_KEY: Final[ContextKey] = (USER_ID, "settings")
_KEY_BYTES: Final = context_key_bytes(USER_KEY)

Units = Literal["metric", "imperial"]


class UserConfig(ConfigModel):
    """What a user tells about themselves."""

    time_zone: TimeZoneName = Field(
        default="UTC",
        title="Time zone",
        description="The IANA name of the zone you live in, such as Europe/London.",
    )
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)] = Field(
        default="en",
        title="Language",
        description="A language tag (BCP 47), such as en-GB or de.",
        examples=["en-GB", "de"],
    )
    units: Units = Field(
        default="metric", title="Units", description="How temperatures and distances are given."
    )
    enhance: bool = Field(
        default=True,
        title="Written hints",
        description="Whether a language model may read your feed to write short hints into it.",
    )


@dataclass(frozen=True, slots=True)
class UserSettings:
    """The same, for those who read it from context."""

    zone: ZoneInfo
    locale: str = "en"
    units: Units = "metric"
    enhance: bool = True

    @property
    def language(self) -> str:
        """The language without its region, in lower case."""
        return self.locale.partition("-")[0].lower()


def user_settings(ctx: Context) -> UserSettings:
    """What `freya.user` says; the defaults where it is off, and for what is not understood."""
    entry = ctx.entry(_KEY_BYTES)
    return _DEFAULTS if entry is None else _settings(entry.encoded)


# Looked up for every change of every feed; and most users have the settings of many others.
@lru_cache(maxsize=1024)
def _settings(encoded: bytes) -> UserSettings:
    value: JsonValue = orjson.loads(encoded)["value"]
    if not isinstance(value, Mapping):
        return _DEFAULTS
    name, locale = value.get("timeZone"), value.get("locale")
    try:
        where = zone(name) if isinstance(name, str) else _DEFAULTS.zone
    except ValueError:
        # Stored where the database of time zones was a newer one.
        where = _DEFAULTS.zone
    return UserSettings(
        zone=where,
        locale=locale if isinstance(locale, str) else _DEFAULTS.locale,
        units="imperial" if value.get("units") == "imperial" else "metric",
        enhance=value.get("enhance") is not False,
    )


_DEFAULTS: Final = UserSettings(zone("UTC"))


# Most users have the settings of many others: those share one entry, which cannot be changed.
@lru_cache(maxsize=1024)
def _entry(encoded: str) -> ContextEntry:
    return ContextEntry.make(USER_KEY, orjson.loads(encoded))


class UserSource(FeedSource):
    """Says what its config says."""

    id = USER_ID
    refresh_every_s = 0
    answers_at_once = True

    def __init__(self, config: UserConfig) -> None:
        self._context = (_entry(config.model_dump_json(by_alias=True)),)

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        return self._context


class UserProvider(FeedProvider[UserConfig]):
    """Makes `freya.user`."""

    source_id = USER_ID
    name = "You"
    config_schema = UserConfig
    default_row = True
    builds_at_once = True

    async def source_for_user(
        self, user: UserId, config: UserConfig, credentials: BaseModel | None, services: Services
    ) -> UserSource:
        return UserSource(config)
