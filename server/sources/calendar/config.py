"""What a user sets about a calendar."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from server.sources.provider import ConfigModel
from server.sources.zones import TimeZoneName
from server.upstream.urls import MOST_CHARACTERS, web_address

__all__ = ["CalendarConfig", "CalendarCredentials", "https_of"]


def https_of(url: str) -> str:
    """The address behind `webcal:`, which only says that a calendar is meant; others are as they were."""
    text = url.strip()
    scheme, separator, rest = text.partition("://")
    return f"https://{rest}" if separator and scheme.lower() in ("webcal", "webcals") else text


def _calendar_address(text: str) -> str:
    web_address(https_of(text))
    return text.strip()


def _web_address(text: str) -> str:
    web_address(text)
    return text.strip()


class CalendarConfig(ConfigModel):
    """Either a published calendar (`url`), or an account on a CalDAV server (`serverUrl` and `username`)."""

    url: (
        Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(_calendar_address)]
        | None
    ) = Field(
        default=None,
        title="Calendar address",
        description="The https: or webcal: address of a published calendar (iCalendar).",
        examples=["webcal://example.com/holidays.ics"],
    )
    server_url: (
        Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(_web_address)] | None
    ) = Field(
        default=None,
        title="CalDAV server",
        description="The address of the server that has your calendars. The password goes there.",
        examples=["https://caldav.example.com/"],
    )
    username: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^:\x00-\x1f\x7f]+$")] | None = (
        Field(default=None, title="User name", description="Your name on that server.")
    )
    look_ahead_days: int = Field(
        default=0, ge=0, le=60, title="Days ahead", description="How many days after today are shown."
    )
    time_zone: TimeZoneName | None = Field(
        default=None,
        title="Time zone",
        description="Where your days begin and end. If not set, the zone of your own settings.",
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if (self.url is None) == (self.server_url is None):
            raise ValueError("either url or serverUrl is needed, and not both")
        if self.server_url is not None and self.username is None:
            raise ValueError("serverUrl needs a username")
        if self.url is not None and self.username is not None:
            raise ValueError("a username belongs to a serverUrl")
        return self


class CalendarCredentials(ConfigModel):
    """What a CalDAV account asks for."""

    password: Annotated[SecretStr, Field(min_length=1, max_length=1024)] = Field(
        title="Password", description="Of the account, or better one made for this purpose alone."
    )
