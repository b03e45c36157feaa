"""freya.calendar, from published calendars and from accounts on a real CalDAV server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from protocol.feed import Signals
from protocol.frozen import JsonObject
from server.engine.source import Unauthorized
from server.sources.user import UserConfig
from tests.sources.outside.conftest import DatedClock, Street, Town, open_town
from tests.sources.outside.ics import calendar, event, london
from tests.support.radicale import Radicale
from tests.support.web import Asked, Reply, open_web

LONDON = UserConfig.model_validate({"timeZone": "Europe/London"})
NEW_YORK = UserConfig.model_validate({"timeZone": "America/New_York"})

REVIEW = event(
    "review",
    *london("20260302T100000", "20260302T110000"),
    "SUMMARY:Review",
    "LOCATION:Room 4",
    "ATTENDEE;CN=Bob;PARTSTAT=ACCEPTED:mailto:bob@example.com",
)
STANDUP = event(
    "standup", *london("20260105T093000", "20260105T094500"), "RRULE:FREQ=DAILY", "SUMMARY:Standup"
)
HOLIDAY = event("holiday", "DTSTART;VALUE=DATE:20260302", "DTEND;VALUE=DATE:20260303", "SUMMARY:Holiday")


def ics(text: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(200, text.encode(), {"content-type": "text/calendar", **named})


async def reading(town: Town, url: str, user: UserConfig = LONDON, **config: object) -> Street:
    street = town.street(settings=user)
    await street.add("freya.calendar", {"url": url, **config})  # pyright: ignore[reportArgumentType] -- JSON by its keywords
    return street


def titles(street: Street) -> list[object]:
    return [item.data["title"] for item in street.of_type("caldav-event")]


def code(street: Street) -> str | None:
    error = street.error("freya.calendar")
    return None if error is None else error.code


# Published calendars


async def test_a_published_calendar_shows_what_is_on_today(real_town: Town) -> None:
    text = calendar(STANDUP, REVIEW, HOLIDAY, name="Work")
    async with open_web(lambda asked: ics(text)) as web:
        street = await reading(real_town, f"{web.url}/work.ics")
        items = street.of_type("caldav-event")
        assert titles(street) == ["Holiday", "Standup", "Review"]
        assert [item.signals for item in items] == [
            Signals(0.3, "ambient"),
            Signals(0.9, "imminent"),
            Signals(0.7, "upcoming"),
        ]
        review = items[2]
        assert review.timestamp == datetime(2026, 3, 2, 10, tzinfo=UTC)
        assert review.expires_at == datetime(2026, 3, 3, tzinfo=UTC)
        assert review.slots is not None
        assert list(review.slots) == ["insight", "preparation", "crossSource"]
        assert review.data == {
            "uid": "review",
            "title": "Review",
            "startDate": "2026-03-02T10:00:00Z",
            "endDate": "2026-03-02T11:00:00Z",
            "isAllDay": False,
            "startDay": None,
            "endDay": None,
            "location": "Room 4",
            "description": None,
            "calendarName": "Work",
            "status": None,
            "url": None,
            "organizer": None,
            "attendees": [
                {"name": "Bob", "email": "bob@example.com", "role": "required", "status": "accepted"}
            ],
            "alarms": [],
            "recurrenceId": None,
        }
        assert items[1].id.endswith("-20260302T093000Z")
        assert street.context("freya.calendar", "calendar") == {
            "inProgress": [],
            "nextEvent": {
                "title": "Standup",
                "startDate": "2026-03-02T09:30:00Z",
                "endDate": "2026-03-02T09:45:00Z",
                "location": None,
                "calendarName": "Work",
            },
            "hasTodayEvents": True,
            "todayEventCount": 3,
        }


async def test_days_are_those_of_the_config_or_else_of_the_user(real_town: Town) -> None:
    late = event("late", "DTSTART:20260303T020000Z", "SUMMARY:Late")
    async with open_web(lambda asked: ics(calendar(late))) as web:
        assert titles(await reading(real_town, web.url)) == []
        assert titles(await reading(real_town, web.url, NEW_YORK)) == ["Late"]
        assert titles(await reading(real_town, web.url, NEW_YORK, timeZone="Europe/London")) == []
        assert titles(await reading(real_town, web.url, lookAheadDays=1)) == ["Late"]


async def test_all_who_name_an_address_share_what_is_read_there(real_town: Town) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.headers.get("if-none-match") == '"1"':
            return Reply(304, b"", {"etag": '"1"'})
        return ics(calendar(REVIEW), etag='"1"')

    async with open_web(answer) as web:
        runs = real_town.worker_runs
        streets = [await reading(real_town, f"{web.url}/a.ics") for _ in range(5)]
        for street in streets:
            await street.refresh()
            assert titles(street) == ["Review"]
        assert (len(web.requests), real_town.worker_runs - runs) == (1, 1)


async def test_ids_stay_when_an_event_changes_and_only_that_item_changes(real_town: Town) -> None:
    text = calendar(STANDUP, REVIEW)
    async with open_web(lambda asked: ics(text)) as web:
        street = await reading(real_town, web.url)
        before = street.of_type("caldav-event")
        text = calendar(STANDUP, REVIEW.replace("SUMMARY:Review", "SUMMARY:Big review"))
        again = await reading(real_town, f"{web.url}/?2")
        after = again.of_type("caldav-event")
        assert [item.id for item in after] == [item.id for item in before]
        assert after[0] == before[0]
        assert after[1].data["title"] == "Big review"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, b"<html>Sign in</html>"), "badAnswer"),
        (Reply(200, b"BEGIN:VCALENDAR", {"content-length": "999"}, cut=10), "badAnswer"),
        (Reply(404), "config"),
        (Reply(401), "unauthorized"),
        (Reply(503), "unreachable"),
        (Reply(429, b"", {"retry-after": "600"}), "rateLimited"),
        (Reply(302, b"", {"location": "ftp://example.com/"}), "badAnswer"),
    ],
)
async def test_every_bad_answer_has_its_name(real_town: Town, reply: Reply, expected: str) -> None:
    async with open_web(lambda asked: reply) as web:
        street = await reading(real_town, f"{web.url}/secret-path?token=hush")
        assert code(street) == expected
        error = street.error("freya.calendar")
        assert error is not None
        assert "hush" not in error.message
        assert "secret" not in error.message


async def test_an_address_in_our_own_network_is_not_read() -> None:
    async with (
        open_web(lambda asked: ics(calendar(REVIEW))) as web,
        open_town(DatedClock(), allow_private=False) as town,
    ):
        street = await reading(town, web.url)
        error = street.error("freya.calendar")
        assert error is not None
        assert (error.code, error.message) == ("config", "that address is not on the public internet")
        assert web.connections == 0


async def test_a_calendar_of_twenty_thousand_events_is_read_elsewhere(real_town: Town) -> None:
    begin = datetime(2012, 1, 1, 8, tzinfo=UTC)
    many = [
        event(f"e{n}", f"DTSTART:{begin + timedelta(hours=8 * n):%Y%m%dT%H%M%SZ}", "DURATION:PT1H")
        for n in range(20_000)
    ]
    text = calendar(*many)
    async with open_web(lambda asked: ics(text)) as web:
        runs = real_town.worker_runs
        street = await reading(real_town, web.url)
        assert len(street.of_type("caldav-event")) == 3
        assert real_town.worker_runs == runs + 1


async def test_a_failure_leaves_what_was_read_before(real_town: Town) -> None:
    broken = False
    async with open_web(lambda asked: Reply(500) if broken else ics(calendar(REVIEW))) as web:
        street = await reading(real_town, web.url)
        broken = True
        clock = street.clock
        assert isinstance(clock, DatedClock)
        clock.hurry(70)
        await street.refresh()
        assert (titles(street), code(street)) == (["Review"], "unreachable")


# Accounts


def account(radicale: Radicale, **changes: object) -> JsonObject:
    return {"serverUrl": radicale.url, "username": "anna", **changes}  # pyright: ignore[reportReturnType] -- JSON by its keywords


async def connected(
    town: Town, config: JsonObject, user: UserConfig = LONDON, password: str = "secret"
) -> Street:
    street = town.street(settings=user)
    await street.add("freya.calendar", config, {"password": password})
    return street


async def test_an_account_shows_the_events_of_all_its_calendars(real_town: Town, radicale: Radicale) -> None:
    radicale.make_calendar("work", "Work")
    radicale.make_calendar("home", "Home & family")
    radicale.put("work", "standup", calendar(STANDUP))
    radicale.put("work", "review", calendar(REVIEW))
    radicale.put("home", "holiday", calendar(HOLIDAY))
    radicale.put("home", "review", calendar(REVIEW))
    street = await connected(real_town, account(radicale))
    assert code(street) is None
    shown = [(item.data["title"], item.data["calendarName"]) for item in street.of_type("caldav-event")]
    assert sorted(shown, key=str) == [
        ("Holiday", "Home & family"),
        ("Review", "Home & family"),
        ("Review", "Work"),
        ("Standup", "Work"),
    ]
    # The same UID in two calendars is two items.
    assert len({item.id for item in street.items}) == 4


CHANGES = [
    # The clocks go forward in London, when they have in New York for three weeks.
    ("2026-03-28", LONDON, ["09:00", "14:00"]),
    ("2026-03-29", LONDON, ["08:00", "14:00"]),
    ("2026-03-07", NEW_YORK, ["09:00", "15:00"]),
    ("2026-03-08", NEW_YORK, ["09:00", "14:00"]),
    # And back.
    ("2026-10-24", LONDON, ["08:00", "14:00"]),
    ("2026-10-25", LONDON, ["09:00", "14:00"]),
    ("2026-11-01", NEW_YORK, ["09:00", "15:00"]),
]


async def test_series_stay_at_their_hours_when_clocks_change_there_and_here(
    real_town: Town, radicale: Radicale
) -> None:
    radicale.make_calendar("work", "Work")
    here = event("here", *london("20260105T090000", "20260105T100000"), "RRULE:FREQ=DAILY")
    there = event(
        "there", *london("20260105T100000", "20260105T110000", "America/New_York"), "RRULE:FREQ=DAILY"
    )
    radicale.put("work", "here", calendar(here))
    radicale.put("work", "there", calendar(there))
    for day, user, expected in CHANGES:
        town = real_town.from_day(datetime.fromisoformat(f"{day}T12:00:00+00:00"))
        street = await connected(town, account(radicale), user)
        times = [f"{item.timestamp:%H:%M}" for item in street.of_type("caldav-event")]
        assert times == expected, day


async def test_moved_cancelled_and_broken_events_are_what_they_are(
    real_town: Town, radicale: Radicale
) -> None:
    radicale.make_calendar("work", "Work")
    moved = event(
        "standup",
        "RECURRENCE-ID;TZID=Europe/London:20260302T093000",
        *london("20260302T150000", "20260302T151500"),
        "SUMMARY:Late standup",
    )
    radicale.put("work", "standup", calendar(STANDUP, moved))
    radicale.put("work", "review", calendar(REVIEW.replace("SUMMARY", "STATUS:CANCELLED\r\nSUMMARY")))
    radicale.put_past_all_checks("work", "broken", calendar(event("broken", "DTSTART:soon")))
    street = await connected(real_town, account(radicale))
    review, standup = street.of_type("caldav-event")
    assert (review.data["status"], review.signals) == ("cancelled", Signals(0.1, "ambient"))
    assert (standup.data["title"], standup.data["recurrenceId"]) == ("Late standup", "20260302T093000Z")
    assert standup.timestamp == datetime(2026, 3, 2, 15, tzinfo=UTC)
    context = street.context("freya.calendar", "calendar")
    assert isinstance(context, dict)
    assert context["todayEventCount"] == 1


async def test_what_changes_on_the_server_changes_in_the_feed(real_town: Town, radicale: Radicale) -> None:
    radicale.make_calendar("work", "Work")
    radicale.put("work", "review", calendar(REVIEW))
    street = await connected(real_town, account(radicale))
    runs = real_town.worker_runs
    await street.refresh()
    # Nothing is worked out anew while nothing has changed.
    assert real_town.worker_runs == runs
    radicale.put("work", "review", calendar(REVIEW.replace("SUMMARY:Review", "SUMMARY:Big review")))
    await street.refresh()
    assert titles(street) == ["Big review"]
    radicale.delete("work/review.ics")
    await street.refresh()
    assert titles(street) == []


async def test_a_calendar_that_is_deleted_goes_and_the_others_stay(
    real_town: Town, radicale: Radicale
) -> None:
    radicale.make_calendar("work", "Work")
    radicale.make_calendar("home", "Home")
    radicale.put("work", "review", calendar(REVIEW))
    radicale.put("home", "holiday", calendar(HOLIDAY))
    street = await connected(real_town, account(radicale))
    radicale.delete("work/")
    await street.refresh()
    await street.refresh()
    assert (titles(street), code(street)) == (["Holiday"], None)


async def test_any_address_on_the_way_to_the_calendars_will_do(real_town: Town, radicale: Radicale) -> None:
    radicale.make_calendar("office", "Office")
    radicale.put("office", "review", calendar(REVIEW))
    for path in ("", "anna/", "anna/office/"):
        street = await connected(real_town, account(radicale, serverUrl=radicale.url + path))
        assert (titles(street), code(street)) == (["Review"], None), path


async def test_a_wrong_password_is_told_at_once_and_later(real_town: Town, radicale: Radicale) -> None:
    radicale.make_calendar("work", "Work")
    provider = real_town.providers["freya.calendar"]
    street = real_town.street()
    config = provider.config_schema.model_validate(account(radicale))
    assert provider.credentials_schema is not None
    for password, good in (("wrong", False), ("secret", True)):
        credentials = provider.credentials_schema.model_validate({"password": password})
        if good:
            await provider.validate_credentials(street.user, config, credentials, street.services)
            continue
        with pytest.raises(Unauthorized) as caught:
            await provider.validate_credentials(street.user, config, credentials, street.services)
        assert caught.value.message == "127.0.0.1 refuses access (401)"
    late = await connected(real_town, account(radicale), password="wrong")
    assert code(late) == "unauthorized"


async def test_an_account_without_a_password_cannot_be_built(real_town: Town, radicale: Radicale) -> None:
    street = real_town.street()
    with pytest.raises(Unauthorized):
        await street.build("freya.calendar", account(radicale))


async def test_an_account_without_calendars_says_so(real_town: Town, radicale: Radicale) -> None:
    street = await connected(real_town, account(radicale))
    error = street.error("freya.calendar")
    assert error is not None
    assert (error.code, error.message) == ("config", "that account has no calendar")


# Servers that are not as they should be

NS = 'xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"'


class Dav:
    """A server with two calendars, scripted: what it answers by path, and where its home is."""

    def __init__(self) -> None:
        self.home = "/home/"
        self.changes: dict[str, Reply] = {}
        self.logins: list[str | None] = []

    def answer(self, asked: Asked) -> Reply:
        self.logins.append(asked.headers.get("authorization"))
        if asked.path in self.changes:
            return self.changes[asked.path]
        if asked.path == "/":
            return self.multistatus(
                ("/", f"<c:calendar-home-set><d:href>{self.home}</d:href></c:calendar-home-set>")
            )
        if asked.path == "/home/":
            kind = "<d:resourcetype><d:collection/><c:calendar/></d:resourcetype>"
            return self.multistatus(("/home/a/", kind), ("/home/b/", kind))
        name = asked.path.split("/")[2]
        text = calendar(event(name, "DTSTART:20260302T100000Z", f"SUMMARY:{name}"))
        return self.multistatus((f"{asked.path}{name}.ics", f"<c:calendar-data>{text}</c:calendar-data>"))

    @staticmethod
    def multistatus(*responses: tuple[str, str]) -> Reply:
        parts = "".join(
            f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop>"
            "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
            for href, properties in responses
        )
        body = f"<d:multistatus {NS}>{parts}</d:multistatus>".encode()
        return Reply(207, body, {"content-type": "application/xml"})


async def at_server(town: Town, url: str) -> Street:
    return await connected(town, {"serverUrl": url, "username": "anna"})


async def test_one_calendar_that_fails_costs_itself_and_all_that_fail_are_an_error(real_town: Town) -> None:
    dav = Dav()
    async with open_web(dav.answer) as web:
        street = await at_server(real_town, web.url)
        assert titles(street) == ["a", "b"]
        dav.changes["/home/a/"] = Reply(500)
        await street.refresh()
        # What was last read of it stays.
        assert (titles(street), code(street)) == (["a", "b"], None)
        dav.changes["/home/b/"] = Reply(500)
        await street.refresh()
        assert (titles(street), code(street)) == (["a", "b"], "unreachable")
        fresh = await at_server(real_town, f"{web.url}/?2")
        assert (titles(fresh), code(fresh)) == ([], "unreachable")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html></html>"),
        Reply(207, b"<html></html>"),
        Reply(207, b"not XML"),
        Reply(207, b""),
        Reply(405),
        Reply(404),
    ],
)
async def test_a_server_that_is_none_is_said_to_be_none(real_town: Town, reply: Reply) -> None:
    async with open_web(lambda asked: reply) as web:
        street = await at_server(real_town, web.url)
        assert code(street) in ("badAnswer", "config")
        assert web.paths() == ["/", "/.well-known/caldav"]


async def test_the_fixed_place_that_servers_are_found_by_is_tried(real_town: Town) -> None:
    dav = Dav()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/mail":
            return Reply(200, b"<html>Our mail</html>")
        if asked.path == "/.well-known/caldav":
            return Reply(301, b"", {"location": "/"})
        return dav.answer(asked)

    async with open_web(answer) as web:
        assert titles(await at_server(real_town, f"{web.url}/mail")) == ["a", "b"]


async def test_calendars_on_another_host_of_the_provider_are_read_there(real_town: Town) -> None:
    front, back = Dav(), Dav()
    async with open_web(front.answer) as one, open_web(back.answer) as two:
        front.home = f"{two.url}/home/"
        assert titles(await at_server(real_town, one.url)) == ["a", "b"]
        assert set(front.logins) == set(back.logins) == {"Basic YW5uYTpzZWNyZXQ="}


@pytest.mark.parametrize("home", ["ftp://example.com/", "http://[", "javascript:alert(1)"])
async def test_a_home_that_makes_no_sense_is_a_bad_answer(real_town: Town, home: str) -> None:
    dav = Dav()
    dav.home = home
    async with open_web(dav.answer) as web:
        assert code(await at_server(real_town, web.url)) == "badAnswer"
