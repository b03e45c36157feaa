from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import ContextEntry, FeedItem, Signals, TimeRelevance
from protocol.frozen import JsonValue
from protocol.ids import SourceId
from protocol.times import to_wire
from server.engine.context import Context
from server.engine.processors import Processed
from server.engine.ranking import Ranking
from server.engine.source import Answer, FeedSource
from server.sources.item_types import (
    CALENDAR_EVENT,
    CLOCK_GREETING,
    REMINDER,
    TRANSIT_STATUS,
    WEATHER_ALERT,
    WEATHER_CURRENT,
    WEATHER_DAILY,
    WEATHER_HOURLY,
)
from server.sources.time_of_day import TimeOfDay
from server.sources.user import USER_KEY, UserConfig, UserSource
from tests.sources.conftest import Feeds
from tests.sources.reminders.series import dues, utc

# The 2nd of March 2026 is a Monday.
MORNING = utc("2026-03-02T08:00")
AFTERNOON = utc("2026-03-02T14:00")
EVENING = utc("2026-03-02T19:00")
NIGHT = utc("2026-03-02T23:00")
SATURDAY_MORNING = utc("2026-03-07T08:00")

UPCOMING = Signals(0.5, "upcoming")
AMBIENT = Signals(0.2, "ambient")
IMMINENT = Signals(0.9, "imminent")


def an_item(
    kind: str, name: str | None = None, signals: Signals | None = UPCOMING, **data: JsonValue
) -> FeedItem:
    return FeedItem.make(
        id=f"com.example/{name or kind}",
        source_id="com.example",
        type=kind,
        timestamp=MORNING,
        data=data,
        signals=signals,
    )


def an_event(
    name: str,
    start: datetime,
    signals: Signals | None = UPCOMING,
    *,
    lasts: timedelta = timedelta(hours=1),
    **data: JsonValue,
) -> FeedItem:
    times: dict[str, Any] = {
        "startDate": to_wire(start),
        "endDate": to_wire(start + lasts),
        "isAllDay": False,
    }
    return an_item(CALENDAR_EVENT, name, signals, **{**times, **data})


def processed(now: datetime, *items: FeedItem, time_zone: str = "UTC") -> Processed:
    context = Context.of([ContextEntry.make(USER_KEY, {"timeZone": time_zone})], now)
    return TimeOfDay()(items, context)


def shown(now: datetime, *items: FeedItem, time_zone: str = "UTC") -> list[str]:
    """The local ids of what is left, in its order."""
    ranking = Ranking(items)
    ranking.apply(processed(now, *items, time_zone=time_zone))
    return [item.id.partition("/")[2] for item in ranking.result()[0]]


REMIND = an_item(REMINDER)
CURRENT = an_item(WEATHER_CURRENT)
HOURLY = an_item(WEATHER_HOURLY)
DAILY = an_item(WEATHER_DAILY)
ALERT = an_item(WEATHER_ALERT)
TRANSIT = an_item(TRANSIT_STATUS)


# Mornings


def test_a_morning_favours_weather_alerts_and_transit_on_a_weekday() -> None:
    assert shown(MORNING, REMIND, TRANSIT, HOURLY, CURRENT, ALERT) == [
        WEATHER_ALERT,
        WEATHER_CURRENT,
        TRANSIT_STATUS,
        REMINDER,
        WEATHER_HOURLY,
    ]


def test_a_morning_of_the_weekend_leaves_transit_alone() -> None:
    assert shown(SATURDAY_MORNING, REMIND, TRANSIT) == [REMINDER, TRANSIT_STATUS]


def test_a_morning_favours_the_first_event_of_the_day() -> None:
    noon, three = an_event("noon", utc("2026-03-02T12:00")), an_event("three", utc("2026-03-02T15:00"))
    tomorrow = an_event("tomorrow", utc("2026-03-03T06:00"))
    assert shown(MORNING, REMIND, tomorrow, three, noon) == ["noon", REMINDER, "tomorrow", "three"]


def test_when_the_first_event_is_over_none_takes_its_place() -> None:
    early = an_event("early", utc("2026-03-02T06:00"))
    noon = an_event("noon", utc("2026-03-02T12:00"))
    assert shown(MORNING, REMIND, noon, early) == [REMINDER, "noon", "early"]


def test_all_day_and_cancelled_events_are_not_the_first() -> None:
    whole = an_event("whole", utc("2026-03-02T00:00"), isAllDay=True)
    off = an_event("off", utc("2026-03-02T09:00"), status="cancelled")
    noon = an_event("noon", utc("2026-03-02T12:00"))
    assert shown(MORNING, whole, off, noon) == ["noon", "whole", "off"]


# Afternoons, evenings, nights


def test_an_afternoon_favours_imminent_events() -> None:
    soon = an_event("soon", utc("2026-03-02T14:45"), IMMINENT)
    later = an_event("later", utc("2026-03-02T17:00"))
    assert shown(AFTERNOON, CURRENT, later, soon) == ["soon", WEATHER_CURRENT, "later"]


def test_an_evening_hides_ambient_work_events_and_favours_tomorrows_weather() -> None:
    work = an_event("work", utc("2026-03-03T10:00"), AMBIENT)
    party = an_event("party", utc("2026-03-03T20:00"), AMBIENT)
    weekend = an_event("weekend", utc("2026-03-07T10:00"), AMBIENT)
    birthday = an_event("birthday", utc("2026-03-03T00:00"), AMBIENT, isAllDay=True)
    assert shown(EVENING, REMIND, work, party, weekend, birthday, DAILY) == [
        WEATHER_DAILY,
        REMINDER,
        "party",
        "weekend",
        "birthday",
    ]


def test_an_evening_keeps_work_events_that_are_not_ambient() -> None:
    work = an_event("work", utc("2026-03-02T17:59"), IMMINENT)
    assert shown(EVENING, work) == ["work"]


@pytest.mark.parametrize(
    ("signals", "stays"),
    [
        (Signals(0.79, "upcoming"), False),
        (Signals(0.8, "upcoming"), True),
        (Signals(0.1, "imminent"), True),
        (Signals(0.8), True),
        (Signals(0.5), False),
        (Signals(None, "ambient"), False),
    ],
)
def test_a_night_keeps_only_what_is_imminent_or_urgent(signals: Signals, *, stays: bool) -> None:
    assert bool(shown(NIGHT, an_item("parcel", signals=signals))) is stays


def test_what_makes_no_claim_to_be_urgent_or_not_is_never_hidden() -> None:
    greeting = an_item(CLOCK_GREETING, signals=None)
    meeting = an_event("meeting", NIGHT + timedelta(minutes=20), None)
    assert shown(NIGHT, greeting) == [CLOCK_GREETING]
    assert shown(NIGHT, greeting, meeting) == ["meeting", CLOCK_GREETING]


# Before a meeting


def test_in_the_half_hour_before_a_meeting_it_comes_first_with_transit_and_weather_beside_it() -> None:
    meeting = an_event("meeting", MORNING + timedelta(minutes=30))
    ambient = an_item("quote", signals=AMBIENT)
    assert shown(MORNING, ambient, REMIND, CURRENT, TRANSIT, meeting) == [
        "meeting",
        TRANSIT_STATUS,
        WEATHER_CURRENT,
        REMINDER,
    ]


def test_half_an_hour_and_a_second_before_is_too_early() -> None:
    meeting = an_event("meeting", AFTERNOON + timedelta(minutes=30, seconds=1))
    ambient = an_item("quote", signals=AMBIENT)
    assert shown(AFTERNOON, ambient, meeting) == ["quote", "meeting"]


def test_a_meeting_that_has_begun_no_longer_comes_first() -> None:
    assert shown(AFTERNOON, CURRENT, an_event("meeting", AFTERNOON)) == [WEATHER_CURRENT, "meeting"]


@pytest.mark.parametrize("data", [{"isAllDay": True}, {"status": "cancelled"}])
def test_all_day_and_cancelled_events_are_no_meetings(data: dict[str, Any]) -> None:
    event = an_event("event", AFTERNOON + timedelta(minutes=10), **data)
    assert shown(AFTERNOON, CURRENT, event) == [WEATHER_CURRENT, "event"]


@pytest.mark.parametrize("start", [None, 5, "soon", "2026-03-02"])
def test_an_event_whose_time_makes_no_sense_is_nobodys_meeting(start: JsonValue) -> None:
    event = an_event("event", AFTERNOON + timedelta(minutes=10), startDate=start)
    assert shown(AFTERNOON, CURRENT, event) == [WEATHER_CURRENT, "event"]


def test_a_meeting_at_night_brings_what_one_needs_on_the_way() -> None:
    meeting = an_event("meeting", NIGHT + timedelta(minutes=10), IMMINENT)
    assert shown(NIGHT, TRANSIT, CURRENT, meeting) == ["meeting", TRANSIT_STATUS, WEATHER_CURRENT]


# Time


def test_the_time_of_day_is_the_users() -> None:
    # Six in the morning in Los Angeles, eleven at night in Tokyo.
    assert shown(utc("2026-03-02T14:00"), HOURLY, CURRENT, time_zone="America/Los_Angeles") == [
        WEATHER_CURRENT,
        WEATHER_HOURLY,
    ]
    assert shown(utc("2026-03-02T14:00"), HOURLY, CURRENT, time_zone="Asia/Tokyo") == []
    assert shown(utc("2026-03-02T14:00"), HOURLY, CURRENT) == [WEATHER_HOURLY, WEATHER_CURRENT]


def test_monday_in_tokyo_begins_on_sunday_in_london() -> None:
    sunday = utc("2026-03-01T22:00")
    assert shown(sunday, REMIND, TRANSIT, time_zone="Asia/Tokyo") == [TRANSIT_STATUS, REMINDER]


RELEVANCES: tuple[TimeRelevance | None, ...] = ("imminent", "upcoming", "ambient", None)


@st.composite
def feeds_of_items(draw: st.DrawFn, around: datetime) -> list[FeedItem]:
    kinds = (
        WEATHER_CURRENT,
        WEATHER_DAILY,
        WEATHER_ALERT,
        TRANSIT_STATUS,
        REMINDER,
        CALENDAR_EVENT,
        CALENDAR_EVENT,
    )
    items: list[FeedItem] = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=8))):
        signals = draw(
            st.none() | st.builds(Signals, st.none() | st.floats(0, 1), st.sampled_from(RELEVANCES))
        )
        if kind == CALENDAR_EVENT:
            start = around + timedelta(minutes=draw(st.integers(-600, 1500)))
            items.append(
                an_event(f"{number}", start, signals, lasts=timedelta(minutes=draw(st.integers(0, 200))))
            )
        else:
            items.append(an_item(kind, f"{number}", signals))
    return items


@given(
    st.data(),
    dues(),
    st.sampled_from(("UTC", "America/New_York", "Australia/Lord_Howe")),
    st.floats(0, 0.999),
)
def test_it_says_the_same_until_the_time_it_names(
    data: st.DataObject, now: datetime, time_zone: str, share: float
) -> None:
    items = data.draw(feeds_of_items(now))
    first = processed(now, *items, time_zone=time_zone)
    assert first.next_change_at is not None
    assert first.next_change_at > now
    later = processed(now + (first.next_change_at - now) * share, *items, time_zone=time_zone)
    assert (later.suppress, later.boost) == (first.suppress, first.boost)


@given(st.data(), dues())
def test_it_never_hides_what_it_puts_first(data: st.DataObject, now: datetime) -> None:
    items = data.draw(feeds_of_items(now))
    wanted = processed(now, *items)
    assert not set(wanted.suppress) & {name for name, boost in wanted.boost.items() if boost > 0}
    assert set(wanted.suppress) | set(wanted.boost) <= {item.id for item in items}


class Fixed(FeedSource):
    """Shows what it was given."""

    id = SourceId("com.example")
    refresh_every_s = 0

    def __init__(self, *items: FeedItem) -> None:
        self._items = items

    async def fetch_items(self, ctx: Context) -> Answer:
        return Answer(self._items)


async def test_a_feed_is_put_in_order_anew_when_the_day_goes_on(feeds: Feeds) -> None:
    feed = feeds.open(TimeOfDay())
    user = UserSource(UserConfig.model_validate({"timeZone": "Europe/London"}))
    await feed.add(user, Fixed(REMIND, CURRENT, DAILY, an_item("fire", signals=IMMINENT)))
    seen: list[list[str]] = []
    for moment in ("02T09:00:01", "02T12:00", "02T18:00", "02T22:00", "03T05:00"):
        await feed.to(utc(f"2026-03-{moment}"))
        seen.append([item.type for item in feed.items])
    assert seen == [
        [WEATHER_CURRENT, REMINDER, WEATHER_DAILY, "fire"],
        [REMINDER, WEATHER_CURRENT, WEATHER_DAILY, "fire"],
        [WEATHER_DAILY, REMINDER, WEATHER_CURRENT, "fire"],
        ["fire"],
        [WEATHER_CURRENT, REMINDER, WEATHER_DAILY, "fire"],
    ]
    assert feed.engine.statistics().runs == 2
