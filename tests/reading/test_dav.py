"""What CalDAV servers answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.reading.dav import expand_answer, read_calendars, read_home
from server.reading.values import Collection, Home, Unreadable

BEGIN, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
NAMESPACES = 'xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"'


def multistatus(*responses: str) -> bytes:
    return f"<d:multistatus {NAMESPACES}>{''.join(responses)}</d:multistatus>".encode()


def response(href: str, properties: str, status: str = "HTTP/1.1 200 OK") -> str:
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop>"
        f"<d:status>{status}</d:status></d:propstat></d:response>"
    )


CALENDAR = "<d:resourcetype><d:collection/><c:calendar/></d:resourcetype>"
FOLDER = "<d:resourcetype><d:collection/></d:resourcetype>"
ICS = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:{uid}
DTSTART:20260302T100000Z
SUMMARY:{uid}
END:VEVENT
END:VCALENDAR
"""


def test_the_way_from_an_account_to_its_calendars_is_read() -> None:
    body = multistatus(
        response(
            "/dav/",
            "<d:current-user-principal><d:href>/dav/anna/</d:href></d:current-user-principal>"
            "<c:calendar-home-set><d:href>https://p7.example/anna/calendars/</d:href></c:calendar-home-set>"
            + FOLDER,
        )
    )
    assert read_home(body) == Home("/dav/anna/", "https://p7.example/anna/calendars/", False)


def test_what_a_server_does_not_know_is_none() -> None:
    missing = "<d:current-user-principal/><c:calendar-home-set/>"
    body = multistatus(response("/", missing, "HTTP/1.1 404 Not Found"))
    assert read_home(body) == Home(None, None, False)
    assert read_home(multistatus(response("/anna/office/", CALENDAR))).is_calendar


def test_only_calendars_that_may_hold_events_are_calendars() -> None:
    def holds(kind: str) -> str:
        return (
            f'{CALENDAR}<c:supported-calendar-component-set><c:comp name="{kind}"/>'
            "</c:supported-calendar-component-set>"
        )

    body = multistatus(
        response("/anna/", FOLDER),
        response("/anna/my%20work/", f"<d:displayname>Work</d:displayname>{holds('VEVENT')}"),
        response("/anna/tasks/", holds("VTODO")),
        response("/anna/a%3Fb/", CALENDAR),
    )
    # As the server writes them: taking the escapes out would make another address of the last one.
    assert read_calendars(body) == (Collection("/anna/my%20work/", "Work"), Collection("/anna/a%3Fb/", None))


def test_events_are_expanded_and_a_broken_one_is_counted() -> None:
    def data(text: str) -> str:
        return f"<c:calendar-data>{text}</c:calendar-data>"

    body = multistatus(
        response("/a.ics", data(ICS.format(uid="a"))),
        response("/b.ics", data("oops")),
        response("/c.ics", data(ICS.format(uid="c"))),
    )
    found = expand_answer(body, BEGIN, END, "UTC", 100)
    assert ([event.uid for event in found.events], found.broken) == (["a", "c"], 1)
    broken = expand_answer(multistatus(response("/b.ics", data("oops"))), BEGIN, END, "UTC", 100)
    assert (broken.events, broken.broken) == ((), 1)
    assert expand_answer(multistatus(), BEGIN, END, "UTC", 100).events == ()


def expand_it(body: bytes) -> object:
    return expand_answer(body, BEGIN, END, "UTC", 100)


READERS: tuple[Callable[[bytes], object], ...] = (read_home, read_calendars, expand_it)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Sign in</body></html>",
        b"{}",
        b"<d:multistatus",
        b"\0",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    ],
)
def test_anything_else_is_unreadable(body: bytes) -> None:
    for reader in READERS:
        with pytest.raises(Unreadable):
            reader(body)


def test_entities_reach_no_file() -> None:
    body = (
        f'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><d:multistatus {NAMESPACES}>'
        f"{response('/anna/', f'<d:displayname>&f;</d:displayname>{CALENDAR}')}</d:multistatus>"
    )
    for calendar in read_calendars(body.encode()):
        assert "root" not in (calendar.name or "")


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: multistatus(text)))
def test_any_bytes_are_an_answer_or_unreadable(body: bytes) -> None:
    for reader in READERS:
        with suppress(Unreadable):
            reader(body)
