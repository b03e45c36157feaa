from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sources.clock import ClockConfig, ClockSource
from server.sources.clock.sun import sun_times
from server.sources.clock.texts import texts_for
from server.sources.day import PartOfDay, next_midnight, span_at
from server.sources.item_types import CLOCK_DATE, CLOCK_GREETING, CLOCK_SUN
from server.sources.zones import local_midnight, zone
from tests.sources.conftest import Feed, Home
from tests.sources.reminders.series import ZONES, dues, utc

LONDON = {"lat": 51.5074, "lng": -0.1278}


async def test_a_fresh_feed_has_a_greeting_and_the_date(home: Home) -> None:
    assert home.data(CLOCK_GREETING) == [{"text": "Good morning", "partOfDay": "morning", "language": "en"}]
    assert home.data(CLOCK_DATE) == [
        {"text": "Monday 2 March", "date": "2026-03-02", "timeZone": "UTC", "language": "en"}
    ]
    assert home.data(CLOCK_SUN) == []


async def test_the_greeting_and_the_date_change_on_time(feed: Feed) -> None:
    await feed.add(ClockSource(ClockConfig()))
    said: list[tuple[str, str]] = []
    for moment in ("02T11:59:59", "02T12:00", "02T18:00", "02T22:00", "03T00:00", "03T05:00"):
        await feed.to(utc(f"2026-03-{moment}"))
        greeting, today = feed.data(CLOCK_GREETING)[0]["text"], feed.data(CLOCK_DATE)[0]["date"]
        said.append((str(greeting), str(today)))
    assert said == [
        ("Good morning", "2026-03-02"),
        ("Good afternoon", "2026-03-02"),
        ("Good evening", "2026-03-02"),
        ("Good night", "2026-03-02"),
        ("Good night", "2026-03-03"),
        ("Good morning", "2026-03-03"),
    ]


async def test_an_items_time_is_the_contents_not_the_runs(feed: Feed) -> None:
    await feed.add(ClockSource(ClockConfig()))
    assert feed.of_type(CLOCK_GREETING)[0].timestamp == utc("2026-03-02T05:00")
    before = feed.items
    await feed.refresh()
    assert feed.items is before
    assert [item.id for item in before] == ["freya.clock/greeting", "freya.clock/date"]


async def test_it_speaks_the_users_language_in_the_users_zone(home: Home) -> None:
    await home.put("freya.user", {"timeZone": "Asia/Tokyo", "locale": "de-AT"})
    assert home.data(CLOCK_GREETING)[0]["text"] == "Guten Abend"
    assert home.data(CLOCK_DATE)[0]["text"] == "Montag, 2. März"
    await home.put("freya.user", {"timeZone": "America/Los_Angeles", "locale": "en-US"})
    assert home.data(CLOCK_DATE)[0]["text"] == "Monday, March 2"


async def test_the_sun_comes_with_the_location_and_goes_with_it(home: Home) -> None:
    await home.act("freya.location", "update-location", **LONDON)
    assert home.data(CLOCK_SUN) == [
        {
            "date": "2026-03-02",
            "sunrise": "2026-03-02T06:44:00Z",
            "sunset": "2026-03-02T17:42:00Z",
            "polar": None,
            "timeZone": "UTC",
        }
    ]
    await home.switch_off("freya.location")
    assert home.data(CLOCK_SUN) == []
    assert len(home.data(CLOCK_GREETING)) == 1


async def test_it_goes_on_when_everything_it_uses_is_off(home: Home) -> None:
    await home.put("freya.user", {"timeZone": "Asia/Tokyo", "locale": "de"})
    await home.switch_off("freya.location")
    await home.switch_off("freya.user")
    assert home.data(CLOCK_GREETING)[0]["text"] == "Good morning"
    states = {state["sourceId"]: state["status"] for state in await home.sources.list_states(home.user)}
    assert states["freya.clock"] == "active"


async def test_what_is_not_wanted_is_not_shown(home: Home) -> None:
    await home.put("freya.clock", {"greeting": False, "date": False})
    assert home.items == ()


async def test_steps_from_room_to_room_make_no_new_item(home: Home) -> None:
    await home.act("freya.location", "update-location", **LONDON)
    before = home.of_type(CLOCK_SUN)[0]
    await home.act("freya.location", "update-location", lat=51.5076, lng=-0.1279)
    assert home.of_type(CLOCK_SUN)[0] is before


@given(dues(), st.sampled_from(ZONES))
def test_every_moment_is_in_one_part_of_the_day(moment: datetime, name: str) -> None:
    span = span_at(moment, zone(name))
    assert span.begin <= moment < span.end
    assert span_at(span.begin, zone(name)).part is span.part
    assert span_at(span.end, zone(name)).part is not span.part
    assert timedelta(hours=2) < span.end - span.begin < timedelta(hours=9)


@given(dues(), st.sampled_from(ZONES))
def test_every_moment_is_between_two_midnights(moment: datetime, name: str) -> None:
    where = zone(name)
    today = moment.astimezone(where).date()
    assert local_midnight(today, where) <= moment < next_midnight(today, where)


@pytest.mark.parametrize(
    ("day", "lat", "lng", "name", "sunrise", "sunset"),
    # As NOAA's calculator and national almanacs give them.
    [
        ("2024-06-20", 51.5074, -0.1278, "Europe/London", "04:43", "21:21"),
        ("2024-12-21", 40.7128, -74.0060, "America/New_York", "07:16", "16:32"),
        ("2024-12-21", -33.8688, 151.2093, "Australia/Sydney", "05:41", "20:05"),
        ("2024-03-20", -0.1807, -78.4678, "America/Guayaquil", "06:18", "18:24"),
        ("2024-06-21", 64.1466, -21.9426, "Atlantic/Reykjavik", "02:55", "00:03"),
        ("2024-03-20", 1.8721, -157.4278, "Pacific/Kiritimati", "06:34", "18:40"),
    ],
)
def test_the_sun_rises_when_the_almanac_says(
    day: str, lat: float, lng: float, name: str, sunrise: str, sunset: str
) -> None:
    where = ZoneInfo(name)
    sun = sun_times(date.fromisoformat(day), lat, lng, where)
    assert sun.sunrise is not None
    assert sun.sunset is not None
    for found, expected in ((sun.sunrise, sunrise), (sun.sunset, sunset)):
        local = found.astimezone(where)
        off = timedelta(hours=local.hour, minutes=local.minute) - _clock(expected)
        assert abs(off) <= timedelta(minutes=2)
    assert sun.sunrise.astimezone(where).date() == date.fromisoformat(day)


def _clock(text: str) -> timedelta:
    hours, minutes = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


@pytest.mark.parametrize(
    ("day", "lat", "polar"),
    [
        ("2024-06-21", 69.65, "day"),
        ("2024-12-21", 69.65, "night"),
        ("2024-06-21", 90, "day"),
        ("2024-06-21", -90, "night"),
    ],
)
def test_where_the_sun_does_not_set_or_rise_it_says_so(day: str, lat: float, polar: str) -> None:
    sun = sun_times(date.fromisoformat(day), lat, 18.96, ZoneInfo("Europe/Oslo"))
    assert (sun.sunrise, sun.sunset, sun.polar) == (None, None, polar)


@given(
    st.dates(date(1950, 1, 1), date(2090, 1, 1)),
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.sampled_from(ZONES),
)
def test_the_sun_is_up_around_noon_everywhere(day: date, lat: float, lng: float, name: str) -> None:
    sun = sun_times(day, lat, lng, zone(name))
    if sun.sunrise is None or sun.sunset is None:
        assert sun.polar is not None
        assert abs(lat) > 65
    else:
        assert sun.polar is None
        assert timedelta(0) <= sun.sunset - sun.sunrise <= timedelta(hours=24, minutes=1)


@pytest.mark.parametrize(
    ("locale", "tag"),
    [
        ("en", "en"),
        ("EN-gb", "en"),
        ("en-US", "en-US"),
        ("de-CH-1901", "de"),
        ("xx", "en"),
        ("zh-Hant-TW", "en"),
        ("", "en"),
    ],
)
def test_a_language_that_nobody_taught_it_is_english(locale: str, tag: str) -> None:
    assert texts_for(locale).tag == tag


@pytest.mark.parametrize("locale", ["en", "en-US", "de", "fr", "es", "it", "nl", "pt"])
def test_every_language_has_a_word_for_all_of_it(locale: str) -> None:
    texts = texts_for(locale)
    assert texts.tag == locale
    assert all(texts.greeting(part) for part in PartOfDay)
    assert len({texts.date(date(2026, 1, 1) + timedelta(days=n)) for n in range(365)}) == 365
