"""Calendars to the events of a few days."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest
import recurring_ical_events
from hypothesis import given, settings
from hypothesis import strategies as st

from server.reading.ical import expand
from server.reading.patience import OutOfPatience, within_cpu
from server.reading.values import Event, Expansion, Unreadable

LONDON, NEW_YORK = "Europe/London", "America/New_York"


def calendar(*components: str, head: str = "") -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN", *head.split("\n"), *components]
    return "\r\n".join([line for line in lines if line] + ["END:VCALENDAR", ""]).encode()


def event(uid: str = "a", *lines: str, **properties: str) -> str:
    named = [f"{name.upper()}:{value}" for name, value in properties.items()]
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", *lines, *named, "END:VEVENT"])


def london(name: str, when: str) -> str:
    return f"{name};TZID=Europe/London:{when}"


def days(first: date, count: int = 1, zone: str = LONDON) -> tuple[datetime, datetime]:
    where = ZoneInfo(zone)
    begin = datetime.combine(first, datetime.min.time(), where)
    end = datetime.combine(first + timedelta(days=count), datetime.min.time(), where)
    return begin, end


def on(
    text: bytes, first: date = date(2026, 3, 2), count: int = 1, zone: str = LONDON, most: int = 500
) -> Expansion:
    return expand([text], *days(first, count, zone), zone, most)


def times(expansion: Expansion) -> list[str]:
    return [f"{each.start:%m-%d %H:%M}-{each.end:%H:%M}" for each in expansion.events]


def only(expansion: Expansion) -> Event:
    (one,) = expansion.events
    return one


# One event


def test_an_event_has_all_that_is_known_of_it() -> None:
    text = calendar(
        event(
            "abc",
            london("DTSTART", "20260302T100000"),
            london("DTEND", "20260302T113000"),
            "SUMMARY:Planning\\, part two",
            "LOCATION:Room 4",
            "DESCRIPTION:Bring\\nthe plan",
            "STATUS:TENTATIVE",
            "URL:https://example.com/meet",
            "ORGANIZER;CN=Ada:mailto:ada@example.com",
            "ATTENDEE;CN=Bob;ROLE=CHAIR;PARTSTAT=ACCEPTED:mailto:bob@example.com",
            "ATTENDEE;ROLE=OPT-PARTICIPANT;PARTSTAT=DECLINED:MAILTO:cy@example.com",
            "ATTENDEE:mailto:dee@example.com",
            "BEGIN:VALARM",
            "TRIGGER:-PT15M",
            "ACTION:DISPLAY",
            "END:VALARM",
        ),
        head="X-WR-CALNAME:Work",
    )
    found = on(text)
    one = only(found)
    assert (one.uid, one.recurrence_id, one.days) == ("abc", None, None)
    assert (one.start, one.end) == (
        datetime(2026, 3, 2, 10, tzinfo=UTC),
        datetime(2026, 3, 2, 11, 30, tzinfo=UTC),
    )
    assert (one.title, one.location, one.description) == ("Planning, part two", "Room 4", "Bring\nthe plan")
    assert (one.status, one.url, one.organizer) == ("tentative", "https://example.com/meet", "Ada")
    assert [(who.name, who.email, who.role, who.status) for who in one.attendees] == [
        ("Bob", "bob@example.com", "chair", "accepted"),
        (None, "cy@example.com", "optional", "declined"),
        (None, "dee@example.com", "required", "needs-action"),
    ]
    assert [(alarm.trigger, alarm.action) for alarm in one.alarms] == [("-PT15M", "display")]
    assert (found.broken, found.left_out, found.name) == (0, 0, "Work")


def test_a_whole_day_is_from_midnight_to_midnight_where_the_user_lives() -> None:
    text = calendar(event("a", "DTSTART;VALUE=DATE:20260302", "DTEND;VALUE=DATE:20260304"))
    for zone, utc in ((LONDON, "03-02 00:00-00:00"), (NEW_YORK, "03-02 05:00-05:00")):
        found = on(text, zone=zone)
        assert (times(found), only(found).days) == ([utc], ("2026-03-02", "2026-03-03"))


def test_a_day_without_an_end_lasts_a_day() -> None:
    one = only(on(calendar(event("a", "DTSTART;VALUE=DATE:20260302"))))
    assert (one.days, one.end - one.start) == (("2026-03-02", "2026-03-02"), timedelta(days=1))


def test_whole_days_are_an_hour_shorter_or_longer_when_the_clocks_change() -> None:
    for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25)):
        one = only(on(calendar(event("a", f"DTSTART;VALUE=DATE:{day:%Y%m%d}")), day))
        assert one.end - one.start == timedelta(hours=hours)


def test_a_time_without_a_zone_is_one_of_the_user_s() -> None:
    text = calendar(event("a", dtstart="20260302T080000", dtend="20260302T090000"))
    assert times(on(text, zone=NEW_YORK)) == ["03-02 13:00-14:00"]


def test_a_duration_and_no_length_at_all_are_understood() -> None:
    text = calendar(
        event("a", dtstart="20260302T080000Z", duration="PT45M"), event("b", dtstart="20260302T200000Z")
    )
    assert times(on(text)) == ["03-02 08:00-08:45", "03-02 20:00-20:00"]


def test_zones_that_a_calendar_defines_itself_are_used_and_stay_its_own() -> None:
    zone = "\r\n".join(
        [
            "BEGIN:VTIMEZONE",
            "TZID:My Zone",
            "BEGIN:STANDARD",
            "DTSTART:19700101T000000",
            "TZOFFSETFROM:+0500",
            "TZOFFSETTO:+0500",
            "END:STANDARD",
            "END:VTIMEZONE",
        ]
    )
    one = event("a", "DTSTART;TZID=My Zone:20260302T120000", "DTEND;TZID=My Zone:20260302T130000")
    assert times(on(calendar(zone, one))) == ["03-02 07:00-08:00"]
    assert times(on(calendar(one))) == ["03-02 12:00-13:00"]  # nobody says what it is: the user's


def test_names_of_windows_zones_are_known() -> None:
    text = calendar(event("a", "DTSTART;TZID=W. Europe Standard Time:20260302T120000"))
    assert times(on(text)) == ["03-02 11:00-11:00"]


@pytest.mark.parametrize("link", ["javascript:alert(1)", "file:///etc/passwd", "x" * 3000, "ftp://x"])
def test_only_links_of_the_web_are_links(link: str) -> None:
    assert only(on(calendar(event("a", f"URL:{link}", dtstart="20260302T080000Z")))).url is None


def test_texts_are_as_long_as_they_may_be_and_no_longer() -> None:
    long = "x" * 50_000
    attendees = [f"ATTENDEE;CN={'y' * 1000}:mailto:y@example.com", *["ATTENDEE:mailto:z@example.com"] * 60]
    text = calendar(
        event(long, *attendees, dtstart="20260302T080000Z", summary=long, description=long, location=long)
    )
    one = only(on(text))
    assert (len(one.title or ""), len(one.description or ""), len(one.uid)) == (500, 2000, 500)
    assert (len(one.attendees), len(one.attendees[0].name or "")) == (50, 200)


# Series


def weekly_standup(*more: str) -> bytes:
    return calendar(
        event(
            "a",
            london("DTSTART", "20260105T090000"),
            london("DTEND", "20260105T091500"),
            "RRULE:FREQ=DAILY",
            "SUMMARY:Standup",
        ),
        *more,
    )


@pytest.mark.parametrize(
    ("zone", "change", "before", "after"),
    [
        (LONDON, date(2026, 3, 29), "03-28 09:00", "03-29 08:00"),
        (LONDON, date(2026, 10, 25), "10-24 08:00", "10-25 09:00"),
        (NEW_YORK, date(2026, 3, 8), "03-07 14:00", "03-08 13:00"),
        (NEW_YORK, date(2026, 11, 1), "10-31 13:00", "11-01 14:00"),
    ],
)
def test_a_series_stays_at_its_hour_on_the_wall_when_clocks_change(
    zone: str, change: date, before: str, after: str
) -> None:
    one = event(
        "a",
        f"DTSTART;TZID={zone}:20250105T090000",
        f"DTEND;TZID={zone}:20250105T100000",
        "RRULE:FREQ=DAILY",
    )
    found = on(calendar(one), change - timedelta(days=1), 2, zone)
    assert [each[:11] for each in times(found)] == [before, after]


def test_a_moved_repetition_keeps_the_id_of_when_it_would_have_been() -> None:
    moved = event(
        "a",
        london("RECURRENCE-ID", "20260302T090000"),
        london("DTSTART", "20260302T110000"),
        london("DTEND", "20260302T120000"),
        "SUMMARY:Standup, late",
    )
    one = only(on(weekly_standup(moved)))
    assert (one.title, one.recurrence_id) == ("Standup, late", "20260302T090000Z")
    assert times(on(weekly_standup(moved))) == ["03-02 11:00-12:00"]


def test_a_repetition_moved_to_another_day_is_there_and_not_here() -> None:
    moved = event(
        "a",
        london("RECURRENCE-ID", "20260302T090000"),
        london("DTSTART", "20260420T110000"),
        london("DTEND", "20260420T120000"),
    )
    assert times(on(weekly_standup(moved))) == []
    assert times(on(weekly_standup(moved), date(2026, 4, 20))) == ["04-20 08:00-08:15", "04-20 10:00-11:00"]


def test_a_cancelled_repetition_says_so_and_an_excluded_one_is_not_there() -> None:
    cancelled = event(
        "a",
        london("RECURRENCE-ID", "20260302T090000"),
        london("DTSTART", "20260302T090000"),
        "STATUS:CANCELLED",
    )
    assert only(on(weekly_standup(cancelled))).status == "cancelled"
    excluded = weekly_standup().replace(b"SUMMARY:Standup", b"EXDATE;TZID=Europe/London:20260302T090000")
    assert on(excluded).events == ()


def test_a_series_ends_where_its_rule_says() -> None:
    for rule, last in (("UNTIL=20260301T235959Z", 1), ("COUNT=57", 2)):
        text = weekly_standup().replace(b"FREQ=DAILY", f"FREQ=DAILY;{rule}".encode())
        assert len(on(text, date(2026, 3, last)).events) == 1
        assert on(text, date(2026, 3, last + 1)).events == ()


def test_repetitions_of_whole_days_have_dates_for_ids() -> None:
    text = calendar(event("a", "DTSTART;VALUE=DATE:20200302", "RRULE:FREQ=YEARLY", "SUMMARY:Birthday"))
    one = only(on(text))
    assert (one.recurrence_id, one.days) == ("20260302", ("2026-03-02", "2026-03-02"))


def test_extra_dates_of_a_series_count() -> None:
    text = calendar(event("a", dtstart="20250101T080000Z", duration="PT1H", rdate="20260302T150000Z"))
    assert times(on(text)) == ["03-02 15:00-16:00"]


# What is broken


BROKEN: Mapping[str, str] = {
    "no start": event("x", "SUMMARY:Nothing"),
    "a start that is none": event("x", "DTSTART:soon"),
    "a start in month 13": event("x", "DTSTART:20261302T080000Z"),
    "a rule that is none": event("x", "DTSTART:20260302T080000Z", "RRULE:FREQ=SOMETIMES"),
    "a rule without a frequency": event("x", "DTSTART:20260302T080000Z", "RRULE:COUNT=3"),
    "an end that is none": event("x", "DTSTART:20260302T080000Z", "DTEND:later"),
    "every second since 1970": event("x", "DTSTART:19700101T000000Z", "RRULE:FREQ=SECONDLY"),
    "a nested event": "BEGIN:VEVENT\r\nUID:x\r\nSUMMARY:open",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_malformed_event_drops_only_itself_and_is_counted(broken: str) -> None:
    good = event("good", dtstart="20260302T090000Z", summary="Good")
    after = event("after", dtstart="20260302T180000Z")
    found = on(calendar(good, broken, after))
    assert [each.uid for each in found.events if each.uid != "x"] == ["good", "after"]
    assert found.broken == 1 or any(each.uid == "x" for each in found.events)
    assert found.broken <= 1


@pytest.mark.parametrize("text", [b"", b"<html></html>", b"BEGIN:VCARD\r\nEND:VCARD", b"\xff\xfe\0\0", b"{}"])
def test_what_is_no_calendar_is_unreadable(text: bytes) -> None:
    with pytest.raises(Unreadable):
        on(text)


def test_of_several_parts_one_may_be_broken() -> None:
    good = calendar(event("good", dtstart="20260302T090000Z"))
    found = expand([b"<html>", good], *days(date(2026, 3, 2)), LONDON, 500)
    assert ([each.uid for each in found.events], found.broken) == (["good"], 1)
    with pytest.raises(Unreadable):
        expand([b"<html>", b""], *days(date(2026, 3, 2)), LONDON, 500)


def test_an_empty_calendar_is_a_calendar() -> None:
    assert on(calendar()) == Expansion((), 0, 0, None)


def test_bytes_of_other_worlds_are_read_as_well_as_can_be() -> None:
    text = calendar(event("a", "SUMMARY:caf!", dtstart="20260302T090000Z")).replace(b"!", b"\xe9\0")
    assert only(on(b"\xef\xbb\xbf" + text)).title == "caf\ufffd"


def test_lines_may_be_folded_and_end_as_they_like() -> None:
    text = calendar(event("a", "SUMM\r\n ARY:Lon\r\n\tg", dtstart="20260302T090000Z"))
    assert only(on(text)).title == "Long"
    assert only(on(text.replace(b"\r\n", b"\n"))).title == "Long"


def test_past_the_limit_the_last_ones_are_left_out_and_counted() -> None:
    events = [event(f"e{n:02}", dtstart=f"20260302T{n:02}0000Z") for n in range(20)]
    found = on(calendar(*events), most=5)
    assert [each.uid for each in found.events] == ["e00", "e01", "e02", "e03", "e04"]
    assert found.left_out == 15


def test_the_same_uid_twice_is_one_series_and_costs_nobody_else() -> None:
    text = calendar(
        event("a", dtstart="20260302T090000Z"),
        event("a", dtstart="20260302T100000Z"),
        event("b", dtstart="20260302T110000Z"),
    )
    assert "b" in [each.uid for each in on(text).events]


# Long calendars


def test_a_calendar_of_twenty_thousand_events_is_read_for_its_few_that_matter() -> None:
    start = datetime(2000, 1, 1, 9, tzinfo=UTC)
    many = [
        event(f"e{n}", f"DTSTART:{start + timedelta(hours=12 * n):%Y%m%dT%H%M%SZ}", "DURATION:PT1H")
        for n in range(20_000)
    ]
    found = on(calendar(*many), date(2020, 5, 17))
    assert [f"{each.start:%H:%M}" for each in found.events] == ["09:00", "21:00"]


def test_a_daily_event_of_a_lifetime_costs_next_to_nothing() -> None:
    text = calendar(event("a", "DTSTART:19500101T080000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY"))
    with within_cpu(0.4):
        assert len(on(text).events) == 1


def test_patience_ends_by_the_time_that_was_worked() -> None:
    def work() -> None:
        while True:
            os.getpid()

    with pytest.raises(OutOfPatience), within_cpu(0.05):
        work()


# Against the libraries alone


def rule_of(freq: str, interval: int, by: str, until: str) -> str:
    return ";".join(part for part in (f"FREQ={freq}", f"INTERVAL={interval}", by, until) if part)


rules = st.builds(
    rule_of,
    st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
    st.integers(1, 4),
    st.sampled_from(["", "BYDAY=MO,WE", "BYDAY=TU", "BYMONTH=3", "WKST=SU"]),
    st.sampled_from(["", "UNTIL=20260310T000000Z", "COUNT=400"]),
)


@settings(max_examples=60)
@given(
    rule=rules,
    first=st.dates(date(2019, 1, 1), date(2026, 3, 20)),
    hour=st.integers(0, 23),
    lasts=st.sampled_from(["PT30M", "PT26H", "P3D"]),
    window=st.dates(date(2026, 3, 1), date(2026, 4, 5)),
    zone=st.sampled_from([LONDON, NEW_YORK]),
)
def test_what_is_shown_is_what_the_libraries_make_of_the_whole_series(
    rule: str, first: date, hour: int, lasts: str, window: date, zone: str
) -> None:
    text = calendar(
        event("a", f"DTSTART;TZID={zone}:{first:%Y%m%d}T{hour:02}0000", f"DURATION:{lasts}", f"RRULE:{rule}")
    )
    begin, end = days(window, 2, zone)
    library: Any = recurring_ical_events.of(icalendar.Calendar.from_ical(text))
    margin = timedelta(days=5)
    expected = sorted(
        {
            component["DTSTART"].dt.astimezone(UTC)
            for component in library.between(begin - margin, end + margin)
            if component["DTSTART"].dt < end and component["DTEND"].dt > begin
        }
    )
    assert [each.start for each in on(text, window, 2, zone).events] == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_a_calendar_or_unreadable(raw: bytes) -> None:
    for text in (raw, b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n" + raw + b"\r\nEND:VEVENT\r\nEND:VCALENDAR"):
        try:
            on(text)
        except Unreadable:
            assert not raw.lstrip().upper().startswith(b"BEGIN:VCALENDAR")
