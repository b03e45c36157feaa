"""freya.calendar: what time alone does, and the parts that need nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from server.engine.source import SourceFailure, Unauthorized
from server.reading.values import Event
from server.sources.calendar import CalendarConfig, CalendarSource
from server.sources.calendar.config import https_of
from server.sources.calendar.items import Entry
from server.sources.calendar.moments import Window, goes_at, signals_at
from server.sources.calendar.reading import Question
from server.sources.user import USER_ID, UserConfig, UserSource
from tests.sources.outside.conftest import Street, Town
from tests.support.clock import START

LONDON = UserConfig.model_validate({"timeZone": "Europe/London"})
NEW_YORK = UserConfig.model_validate({"timeZone": "America/New_York"})


def titles(street: Street) -> list[object]:
    return [item.data["title"] for item in street.of_type("caldav-event")]


# Time alone


class Shelf:
    """A reader with events at hand."""

    def __init__(self, *events: Event) -> None:
        self.entries = [Entry(each, "", "Work") for each in events]
        self.questions: list[Question] = []
        self.failure: SourceFailure | None = None

    async def read(self, question: Question) -> Sequence[Entry]:
        self.questions.append(question)
        if self.failure is not None:
            raise self.failure
        return [entry for entry in self.entries if entry.event.touches(question.begin, question.end)]


def made(uid: str, begin: datetime, minutes: float = 60, **changes: object) -> Event:
    values: dict[str, object] = {
        "recurrence_id": None,
        "days": None,
        "title": uid,
        "location": None,
        "description": None,
        "status": None,
        "url": None,
        "organizer": None,
        "attendees": (),
        "alarms": (),
    }
    values.update(changes)
    end = begin + timedelta(minutes=minutes)
    return Event(uid=uid, start=begin, end=end, **values)  # pyright: ignore[reportArgumentType] -- by name


async def shelved(town: Town, *events: Event, **config: object) -> tuple[Street, Shelf]:
    shelf = Shelf(*events)
    street = town.street(settings=LONDON)
    settings = CalendarConfig.model_validate({"url": "https://example.com/a.ics", **config})
    street.engine.add(CalendarSource(settings, shelf))
    await street.settle()
    return street, shelf


async def test_an_event_comes_nearer_without_a_call(town: Town) -> None:
    street, shelf = await shelved(town, made("lunch", START + timedelta(hours=3)))
    street.engine.set_listening(False)
    calls = len(shelf.questions)
    seen: list[tuple[float, str]] = []
    for minutes in (0.1, 59, 60.1, 149, 150.1, 179, 180.1, 239, 240.1):
        await street.to(START + timedelta(minutes=minutes))
        signals = street.item("caldav-event").signals
        assert signals is not None
        seen.append((signals.urgency or 0, signals.time_relevance or ""))
    today, near, soon = (0.5, "upcoming"), (0.7, "upcoming"), (0.9, "imminent")
    running, ended = (0.8, "imminent"), (0.2, "ambient")
    assert seen == [today, today, near, near, soon, soon, running, running, ended]
    assert len(shelf.questions) == calls


async def test_what_others_know_of_the_day_is_right_at_every_moment(town: Town) -> None:
    street, _ = await shelved(
        town, made("first", START + timedelta(hours=1)), made("second", START + timedelta(hours=3))
    )
    street.engine.set_listening(False)

    def known() -> tuple[list[str], object]:
        value = street.context("freya.calendar", "calendar")
        assert isinstance(value, dict)
        running, following = value["inProgress"], value["nextEvent"]
        assert isinstance(running, list)
        names = [each["title"] for each in running if isinstance(each, dict)]
        return [str(name) for name in names], following["title"] if isinstance(following, dict) else None

    seen: list[tuple[list[str], object]] = []
    for hours in (0.1, 1.1, 2.1, 3.1, 4.1):
        await street.to(START + timedelta(hours=hours))
        seen.append(known())
    assert seen == [
        ([], "first"),
        (["first"], "second"),
        ([], "second"),
        (["second"], None),
        ([], None),
    ]


async def test_at_midnight_the_next_day_is_there_already(town: Town) -> None:
    street, shelf = await shelved(
        town, made("today", START + timedelta(hours=1)), made("tomorrow", START + timedelta(days=1))
    )
    street.engine.set_listening(False)
    assert titles(street) == ["today"]
    shelf.failure = Unauthorized("the server is away")
    await street.to(datetime(2026, 3, 3, 0, 0, 1, tzinfo=UTC))
    assert titles(street) == ["tomorrow"]
    # And one more day is asked for.
    await street.settle()
    assert shelf.questions[-1].begin == datetime(2026, 3, 3, tzinfo=UTC)


async def test_a_new_zone_shows_its_own_days(town: Town) -> None:
    street, shelf = await shelved(town, made("late", datetime(2026, 3, 3, 2, tzinfo=UTC)))
    assert titles(street) == []
    street.engine.swap(USER_ID, UserSource(NEW_YORK))
    await street.settle()
    assert titles(street) == ["late"]
    assert shelf.questions[-1].zone == "America/New_York"


# Pure parts

moments = st.integers(0, 365 * 24 * 3600).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(moments, moments, st.floats(0, 3000))
def test_what_changes_next_changes_then_and_not_before(
    now: datetime, begin: datetime, minutes: float
) -> None:
    one = made("a", begin, minutes)
    tomorrow = Window.at(now, ZoneInfo("Europe/London"), 0).tomorrow
    signals, changes_at = signals_at(one, now, tomorrow)
    if changes_at is None:
        assert one.end <= now
        return
    assert changes_at > now
    just_before = changes_at - timedelta(microseconds=1)
    assert signals_at(one, just_before, tomorrow)[0] == signals
    if changes_at < tomorrow:
        assert signals_at(one, changes_at, tomorrow)[0] != signals


@given(moments, st.sampled_from(["Europe/London", "America/New_York", "Asia/Kolkata", "Pacific/Apia"]))
def test_a_window_is_whole_days_around_now(now: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    window = Window.at(now, zone, 2)
    assert window.begin <= now < window.tomorrow < window.end
    for edge in (window.begin, window.tomorrow, window.end):
        assert edge.astimezone(zone).time().isoformat() == "00:00:00"
    assert timedelta(hours=71) <= window.end - window.begin <= timedelta(hours=73)


def test_days_are_as_long_as_they_are_when_clocks_change() -> None:
    london, new_york = ZoneInfo("Europe/London"), ZoneInfo("America/New_York")
    lengths = [
        window.tomorrow - window.begin
        for window in (
            Window.at(datetime(2026, 3, 29, 12, tzinfo=UTC), london, 0),
            Window.at(datetime(2026, 10, 25, 12, tzinfo=UTC), london, 0),
            Window.at(datetime(2026, 3, 8, 12, tzinfo=UTC), new_york, 0),
            Window.at(datetime(2026, 11, 1, 12, tzinfo=UTC), new_york, 0),
        )
    ]
    assert [length / timedelta(hours=1) for length in lengths] == [23, 25, 23, 25]


@given(moments, st.floats(0, 10_000))
def test_an_event_stays_until_the_end_of_the_day_in_which_it_ends(begin: datetime, minutes: float) -> None:
    zone = ZoneInfo("Europe/London")
    one = made("a", begin, minutes)
    goes = goes_at(one, zone)
    assert goes >= one.end
    assert goes - one.end <= timedelta(hours=25)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("webcal://example.com/a.ics", "https://example.com/a.ics"),
        ("WEBCAL://example.com/a.ics", "https://example.com/a.ics"),
        ("webcals://example.com/a.ics", "https://example.com/a.ics"),
        (" https://example.com/a.ics ", "https://example.com/a.ics"),
        ("http://example.com/a.ics", "http://example.com/a.ics"),
    ],
)
def test_webcal_is_https(written: str, meant: str) -> None:
    assert https_of(written) == meant


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": "ftp://example.com"},
        {"url": "https://a:b@example.com/"},
        {"url": "https://example.com/", "serverUrl": "https://example.com/", "username": "a"},
        {"url": "https://example.com/", "username": "a"},
        {"serverUrl": "https://example.com/"},
        {"serverUrl": "webcal://example.com/", "username": "a"},
        {"serverUrl": "https://example.com/", "username": "a:b"},
        {"url": "https://example.com/", "lookAheadDays": 61},
        {"url": "https://example.com/", "lookAheadDays": -1},
        {"url": "https://example.com/", "timeZone": "Mars/Olympus"},
        {"url": "https://example.com/", "password": "x"},
    ],
)
def test_a_config_that_cannot_work_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CalendarConfig.model_validate(config)
