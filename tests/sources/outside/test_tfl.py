"""freya.tfl."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.feed import Signals
from server.sources.tfl import SetLines, TflConfig, TflSettings
from server.sources.tfl.lines import LINES, distance_km, severity_of
from tests.sources.outside.conftest import BERLIN, LONDON, Street, Town
from tests.support.standins import Tfl
from tests.support.web import Reply, open_web

MINOR = (9, "Minor Delays", "Central Line: minor delays due to a signal failure.")
SEVERE = (6, "Severe Delays", "Victoria Line: severe delays.")
CLOSED = (11, "Part Closed", "Northern Line: no service at Bank.")
GOOD = (10, "Good Service", None)

OXFORD_CIRCUS = (51.515, -0.1415)
STRATFORD = (51.5416, -0.0042)


async def in_london(town: Town, url: str, *lines: str) -> Street:
    street = town.with_options(tfl_url=url).street()
    await street.add("freya.tfl", {"lines": list(lines)} if lines else {})
    return street


async def test_where_all_is_well_there_is_nothing_to_show(town: Town) -> None:
    tfl = Tfl()
    async with open_web(tfl.answer) as web:
        street = await in_london(town, web.url)
        assert street.items == ()
        assert street.error("freya.tfl") is None
        assert tfl.status_calls == 1


async def test_a_disruption_is_one_item_with_an_alert_a_line(town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"central": [MINOR], "victoria": [GOOD, SEVERE, MINOR]}
    async with open_web(tfl.answer) as web:
        street = await in_london(town, web.url)
        item = street.item("tfl-status")
        assert item.id == "freya.tfl/status"
        assert item.timestamp == datetime(2026, 3, 2, 8, 12, tzinfo=UTC)
        assert item.signals == Signals(0.8, "imminent")
        assert street.json("tfl-status") == {
            "alerts": [
                {
                    "line": "central",
                    "lineName": "Central",
                    "severity": "minor-delays",
                    "description": "Central Line: minor delays due to a signal failure.",
                    "closestStationDistance": None,
                },
                {
                    "line": "victoria",
                    "lineName": "Victoria",
                    "severity": "major-delays",
                    "description": "Victoria Line: severe delays.",
                    "closestStationDistance": None,
                },
            ]
        }
        assert not tfl.station_calls


@pytest.mark.parametrize(
    ("state", "signals"),
    [
        (MINOR, Signals(0.6, "upcoming")),
        (SEVERE, Signals(0.8, "imminent")),
        (CLOSED, Signals(1.0, "imminent")),
        ((16, "Not Running", None), Signals(1.0, "imminent")),
    ],
)
async def test_the_worst_alert_says_how_much_it_matters(
    town: Town, state: tuple[int, str, str | None], signals: Signals
) -> None:
    tfl = Tfl()
    tfl.states = {"circle": [MINOR], "jubilee": [state]}
    async with open_web(tfl.answer) as web:
        street = await in_london(town, web.url)
        assert street.item("tfl-status").signals == signals


async def test_the_nearest_line_comes_first_and_those_of_unknown_distance_last(town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"bakerloo": [SEVERE], "central": [MINOR], "jubilee": [MINOR]}
    tfl.stations = {"central": [STRATFORD, OXFORD_CIRCUS], "jubilee": [STRATFORD]}
    tfl.broken_stations = {"bakerloo"}
    async with open_web(tfl.answer) as web:
        street = town.with_options(tfl_url=web.url).street()
        street.at(*LONDON)
        await street.add("freya.tfl")
        alerts = street.json("tfl-status")["alerts"]
        assert [(each["line"], each["closestStationDistance"]) for each in alerts] == [
            ("central", 1.3),
            ("jubilee", 9.4),
            ("bakerloo", None),
        ]
        assert street.error("freya.tfl") is None


async def test_a_journey_changes_the_distances_without_a_call(town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"central": [MINOR]}
    tfl.stations = {"central": [OXFORD_CIRCUS]}
    async with open_web(tfl.answer) as web:
        street = town.with_options(tfl_url=web.url).street()
        street.at(*OXFORD_CIRCUS)
        await street.add("freya.tfl")
        street.at(*STRATFORD)
        await street.settle()
        assert street.json("tfl-status")["alerts"][0]["closestStationDistance"] == 10.0
        assert (tfl.status_calls, tfl.station_calls.total()) == (1, 1)


async def test_only_the_chosen_lines_are_shown_and_all_where_none_is(town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"central": [MINOR], "victoria": [SEVERE]}
    async with open_web(tfl.answer) as web:
        street = await in_london(town, web.url, "victoria", "circle")
        assert [each["line"] for each in street.json("tfl-status")["alerts"]] == ["victoria"]


async def test_lists_of_stations_are_asked_for_once_a_day_and_for_disturbed_lines_alone(town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"central": [MINOR]}
    tfl.stations = {"central": [OXFORD_CIRCUS]}
    async with open_web(tfl.answer) as web:
        street = town.with_options(tfl_url=web.url).street()
        street.at(*LONDON)
        await street.add("freya.tfl")
        for _ in range(5):
            await street.pass_time(80)
        assert tfl.status_calls >= 5
        assert dict(tfl.station_calls) == {"central": 1}


async def test_the_long_list_of_a_long_line_is_read_by_a_worker(real_town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"central": [MINOR]}
    tfl.stations = {"central": [(51.0 + n / 10_000, -0.1) for n in range(2000)]}
    async with open_web(tfl.answer) as web:
        street = real_town.with_options(tfl_url=web.url).street()
        street.at(51.0, -0.1)
        await street.add("freya.tfl")
        assert street.json("tfl-status")["alerts"][0]["closestStationDistance"] == 0.0
        assert real_town.upstreams.statistics().workers.runs == 1


async def test_a_key_of_the_operator_goes_along_and_is_never_shown(town: Town) -> None:
    tfl = Tfl()
    async with open_web(lambda asked: Reply(403) if "secret" in asked.query else tfl.answer(asked)) as web:
        town = town.with_options(tfl_url=web.url)
        provider = town.providers["freya.tfl"]
        provider.configure(TflSettings.model_validate({"apiKey": "good"}))
        street = town.street()
        await street.add("freya.tfl")
        assert tfl.queries == [{"app_key": "good"}]
        provider.configure(TflSettings.model_validate({"apiKey": "secret"}))
        other = town.street("bob")
        await other.add("freya.tfl")
        error = other.error("freya.tfl")
        assert error is not None
        assert (error.code, error.message) == ("config", "Transport for London refuses the server's key")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(200, b"<html></html>"), "badAnswer"),
        (Reply(200, b'[{"id": "central"}]'), "badAnswer"),
        (Reply(200, b'[{"id": "central", "name": 5, "lineStatuses": []}]'), "badAnswer"),
        (Reply(200, b"[", {"content-length": "100"}, cut=1), "badAnswer"),
        (Reply(500, b"stack trace"), "unreachable"),
        (Reply(429, b"", {"retry-after": "60"}), "rateLimited"),
    ],
)
async def test_a_status_that_cannot_be_had_is_a_failure(town: Town, reply: Reply, code: str) -> None:
    async with open_web(lambda asked: reply) as web:
        street = await in_london(town, web.url)
        error = street.error("freya.tfl")
        assert error is not None
        assert error.code == code
        assert error.message.startswith("Transport for London")


async def test_lines_nobody_knows_and_codes_without_meaning_are_passed_over(town: Town) -> None:
    tfl = Tfl()
    tfl.states = {"central": [(0, "Special Service", None)], "circle": [(20, "Service Closed", "Night")]}
    body = b'[{"id":"tram","name":"Tram","lineStatuses":[{"statusSeverity":2}]}]'
    async with open_web(tfl.answer) as web, open_web(lambda asked: Reply(200, body)) as odd:
        assert (await in_london(town, web.url)).items == ()
        assert (await in_london(town, odd.url)).items == ()


async def test_an_action_offers_the_lines_to_a_form(town: Town) -> None:
    async with open_web(Tfl().answer) as web:
        street = town.with_options(tfl_url=web.url).street()
        source = await street.build("freya.tfl", {})
        (action,) = source.actions()
        schema = action.info()["inputSchema"]
        assert isinstance(schema, dict)
        assert schema["type"] == "array"
        assert schema["items"]["enum"] == list(LINES)  # pyright: ignore[reportIndexIssue, reportOptionalSubscript, reportCallIssue, reportArgumentType] -- JSON


@pytest.mark.parametrize("lines", [["bakerlooo"], ["Central"], [1], "central", None])
def test_unknown_lines_are_refused(lines: object) -> None:
    with pytest.raises(ValidationError):
        TflConfig.model_validate({"lines": lines})
    with pytest.raises(ValidationError):
        SetLines.model_validate(lines)


def test_a_line_named_twice_is_chosen_once() -> None:
    assert TflConfig.model_validate({"lines": ["central", "circle", "central"]}).lines == (
        "central",
        "circle",
    )


def test_every_severity_code_has_its_meaning() -> None:
    closures = {1, 2, 3, 4, 5, 11, 16}
    meanings = {code: severity_of(code) for code in range(21)}
    assert {code for code, meaning in meanings.items() if meaning == "closure"} == closures
    assert {code for code, meaning in meanings.items() if meaning == "major-delays"} == {6, 7, 8}
    assert {code for code, meaning in meanings.items() if meaning == "minor-delays"} == {9}
    assert severity_of(-1) is None


places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def test_distances_are_as_the_crow_flies() -> None:
    assert distance_km(LONDON, BERLIN) == pytest.approx(930, abs=5)


@given(places, places)
def test_a_distance_is_the_same_both_ways_and_at_most_half_the_globe(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    assert distance_km(a, b) == pytest.approx(distance_km(b, a), abs=1e-6)
    assert 0 <= distance_km(a, b) <= 20_016
