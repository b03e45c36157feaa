from __future__ import annotations

import pytest

from protocol.errors import InvalidSourceConfig
from protocol.feed import ContextEntry
from protocol.frozen import JsonValue
from server.engine.context import Context
from server.sources.user import USER_KEY, UserConfig, user_settings
from tests.sources.conftest import Home
from tests.sources.reminders.series import utc


async def test_a_new_user_has_settings_to_go_by(home: Home) -> None:
    assert home.context()["settings"] == {
        "timeZone": "UTC",
        "locale": "en",
        "units": "metric",
        "enhance": True,
    }
    assert [item for item in home.items if item.source_id == "freya.user"] == []


async def test_what_the_user_says_is_context_for_others(home: Home) -> None:
    said: dict[str, JsonValue] = {
        "timeZone": "Europe/London",
        "locale": "en-GB",
        "units": "imperial",
        "enhance": False,
    }
    await home.put("freya.user", said)
    assert home.context()["settings"] == said


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeZone": "Mars/Olympus"},
        {"timeZone": "Europe"},
        {"timeZone": "../UTC"},
        {"timeZone": ""},
        {"locale": "not a tag"},
        {"locale": ""},
        {"units": "royal"},
        {"enhance": "perhaps"},
        {"name": "Alice"},
        {"time_zone": "UTC"},
    ],
)
async def test_settings_that_make_no_sense_are_refused_with_their_path(
    home: Home, wrong: dict[str, JsonValue]
) -> None:
    with pytest.raises(InvalidSourceConfig) as refused:
        await home.put("freya.user", wrong)
    assert [issue.path for issue in refused.value.issues] == [tuple(wrong)]


def read(value: JsonValue) -> tuple[str, str, str, bool]:
    settings = user_settings(Context.of([ContextEntry.make(USER_KEY, value)], utc("2026-03-02")))
    return settings.zone.key, settings.locale, settings.units, settings.enhance


def test_who_reads_the_settings_gets_them_typed() -> None:
    config = UserConfig.model_validate(
        {"timeZone": "Asia/Tokyo", "locale": "ja", "units": "imperial", "enhance": False}
    )
    assert read(config.model_dump(mode="json")) == ("Asia/Tokyo", "ja", "imperial", False)


@pytest.mark.parametrize("value", [None, 5, [], {}, {"timeZone": "Gone/Zone", "locale": 5, "units": "royal"}])
def test_what_is_not_understood_is_read_as_the_default(value: JsonValue) -> None:
    assert read(value) == ("UTC", "en", "metric", True)


def test_without_the_source_the_defaults_hold() -> None:
    assert user_settings(Context.of([], utc("2026-03-02"))).zone.key == "UTC"


@pytest.mark.parametrize(("locale", "language"), [("en", "en"), ("de-AT", "de"), ("PT-br", "pt")])
def test_the_language_is_the_locale_without_its_region(locale: str, language: str) -> None:
    context = Context.of([ContextEntry.make(USER_KEY, {"locale": locale})], utc("2026-03-02"))
    assert user_settings(context).language == language
