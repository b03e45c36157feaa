from __future__ import annotations

from datetime import timedelta

import pytest
from anyio import CancelScope, create_task_group
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.errors import ActionFailed, InvalidParams
from protocol.frozen import JsonValue
from protocol.times import to_wire
from server.engine.context import Context
from server.sources.location import Fix, LocationSource, UpdateLocation, last_fix
from server.sources.zones import whole_ms
from storage.database import Database
from storage.errors import StorageUnavailable
from tests.sources.conftest import ALICE, Home, House
from tests.sources.reminders.series import dues, utc
from tests.support.postgres import PostgresServer

NINE = utc("2026-03-02T09:00")
LONDON: dict[str, JsonValue] = {"lat": 51.5074, "lng": -0.1278, "accuracy": 12.5}
PARIS: dict[str, JsonValue] = {"lat": 48.8566, "lng": 2.3522}


def at(seconds: float) -> str:
    return to_wire(NINE + timedelta(seconds=seconds))


async def report(home: Home, place: dict[str, JsonValue], timestamp: JsonValue = None) -> JsonValue:
    return await home.act("freya.location", "update-location", **place, timestamp=timestamp)


async def test_a_reported_place_is_context_for_others(home: Home) -> None:
    assert await report(home, LONDON, at(0)) == {"accepted": True}
    assert home.context()["location"] == {**LONDON, "timestamp": at(0)}


async def test_without_a_time_it_is_now_and_without_an_accuracy_none(home: Home) -> None:
    before = home.clock.now()
    await report(home, PARIS)
    location = Fix.from_wire(home.context()["location"])
    assert location is not None
    assert location.accuracy is None
    assert timedelta(0) <= location.timestamp - whole_ms(before) < timedelta(seconds=0.2)


@pytest.mark.parametrize("timestamp", ["2026-03-02T09:59:00.250+01:00", 1772441940250, 1772441940250.0])
async def test_a_time_is_iso_8601_or_milliseconds(home: Home, timestamp: JsonValue) -> None:
    await report(home, LONDON, timestamp)
    location = home.context()["location"]
    assert isinstance(location, dict)
    assert location["timestamp"] == "2026-03-02T08:59:00.250Z"


async def test_an_older_fix_is_ignored(home: Home) -> None:
    await report(home, LONDON, at(-10))
    assert await report(home, PARIS, at(-11)) == {"accepted": False}
    assert home.context()["location"] == {**LONDON, "timestamp": at(-10)}


async def test_an_ignored_fix_is_no_write(home: Home) -> None:
    await report(home, LONDON, at(-10))
    before = home.session.seq
    await report(home, PARIS, at(-11))
    assert home.session.seq == before


async def test_of_two_fixes_of_one_time_the_later_arrival_wins(home: Home) -> None:
    await report(home, LONDON, at(-10))
    assert await report(home, PARIS, at(-10)) == {"accepted": True}
    assert home.context()["location"] == {**PARIS, "accuracy": None, "timestamp": at(-10)}


async def test_a_fix_from_more_than_a_minute_ahead_is_refused(home: Home) -> None:
    assert await report(home, LONDON, at(60)) == {"accepted": True}
    with pytest.raises(ActionFailed, match="future"):
        await report(home, LONDON, at(62))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lat": 90.1},
        {"lat": -90.1},
        {"lng": 180.1},
        {"lng": -180.1},
        {"accuracy": -1},
        {"lat": None},
        {"lat": "north"},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-03-02T09:00:00"},
        {"timestamp": 1e300},
        {"altitude": 10},
    ],
)
async def test_what_is_no_place_on_earth_is_refused_with_its_path(
    home: Home, wrong: dict[str, JsonValue]
) -> None:
    with pytest.raises(InvalidParams) as refused:
        await home.act("freya.location", "update-location", **{**LONDON, **wrong})
    assert [issue.path for issue in refused.value.issues] == [("params", *wrong)]
    assert "location" not in home.context()


@pytest.mark.parametrize("bound", [{"lat": 90, "lng": 180}, {"lat": -90, "lng": -180}, {"accuracy": 0}])
def test_the_bounds_themselves_are_places(bound: dict[str, JsonValue]) -> None:
    assert UpdateLocation.model_validate({**LONDON, **bound})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_place(number: float) -> None:
    with pytest.raises(ValidationError):
        UpdateLocation.model_validate({**LONDON, "lat": number})


async def test_the_last_fix_survives_a_restart_and_reaches_other_replicas(house: House) -> None:
    async with house.home() as here, house.replica() as other:
        there = await house.in_(other)
        await report(here, LONDON, at(0))
        await there.settle()
        assert there.context()["location"] == here.context()["location"]
    async with house.home() as again:
        assert again.context()["location"] == {**LONDON, "timestamp": at(0)}


async def test_a_fix_newer_than_what_this_replica_has_seen_is_not_overwritten(house: House) -> None:
    async with house.home() as here, house.replica() as other:
        there = await house.in_(other)
        async with create_task_group() as group:
            # Neither has heard of the other's when it writes.
            group.start_soon(
                here.actions.execute,
                ALICE,
                "freya.location",
                "update-location",
                {**LONDON, "timestamp": at(0)},
            )
            group.start_soon(
                there.actions.execute,
                ALICE,
                "freya.location",
                "update-location",
                {**PARIS, "timestamp": at(-5)},
            )
        await here.settle()
        await there.settle()
        assert here.context()["location"] == there.context()["location"] == {**LONDON, "timestamp": at(0)}


async def test_fixes_of_one_burst_are_written_together_and_the_last_one_shows(home: Home) -> None:
    source = home.session.source(LocationSource)
    fixes = [Fix(50.0, n / 10, None, NINE + timedelta(milliseconds=n)) for n in range(50)]
    before, accepted = home.session.seq, dict[int, bool]()

    async def one(n: int) -> None:
        accepted[n] = await source.report(fixes[n])

    async with create_task_group() as group:
        for n in range(50):
            group.start_soon(one, n)
    assert accepted == dict.fromkeys(range(50), True)
    assert source.fix == fixes[-1]
    assert home.session.seq - before <= 2


async def test_in_a_burst_each_fix_is_judged_as_if_it_had_come_alone(home: Home) -> None:
    source = home.session.source(LocationSource)
    seconds = [-9, -5, -7, -5, -4, -8]
    accepted = dict[int, bool]()

    async def one(n: int) -> None:
        accepted[n] = await source.report(Fix(50.0, n, None, NINE + timedelta(seconds=seconds[n])))

    async with create_task_group() as group:
        for n in range(len(seconds)):
            group.start_soon(one, n)
    assert accepted == {0: True, 1: True, 2: False, 3: True, 4: True, 5: False}
    assert source.fix is not None
    assert source.fix.lng == 4


async def test_who_writes_for_others_and_is_cancelled_leaves_them_a_write(home: Home, house: House) -> None:
    source = home.session.source(LocationSource)
    fixes = [Fix(50.0, n, None, NINE + timedelta(seconds=n)) for n in range(3)]
    scopes = [CancelScope() for _ in fixes]
    accepted = dict[int, bool]()

    async def one(n: int) -> None:
        with scopes[n]:
            accepted[n] = await source.report(fixes[n])

    async with create_task_group() as group, Database.open(house.url) as database, database.write(ALICE):
        # While the user's write lock is taken, the first waits for it on behalf of all.
        for n in range(3):
            group.start_soon(one, n)
            await home.clock.settle(quiet_s=0.05)
        scopes[0].cancel()
        await home.clock.settle(quiet_s=0.05)
        assert not accepted
    assert accepted == {1: True, 2: True}
    assert source.fix == fixes[2]


async def test_a_burst_that_the_store_cannot_take_fails_for_each(
    home: Home, postgres: PostgresServer
) -> None:
    source = home.session.source(LocationSource)
    outcomes: list[str] = []

    async def one(n: int) -> None:
        with pytest.raises(StorageUnavailable) as failed:
            await source.report(Fix(50.0, n, None, NINE + timedelta(seconds=n)))
        outcomes.append(failed.value.outcome)

    postgres.stop()
    async with create_task_group() as group:
        for n in range(3):
            group.start_soon(one, n)
        await home.clock.advance(12, quiet_s=0.02)
    postgres.start()
    assert outcomes == ["none"] * 3
    assert source.fix is None


def fixes() -> st.SearchStrategy[Fix]:
    return st.builds(Fix, st.floats(-90, 90), st.floats(-180, 180), st.none() | st.floats(0, 1e6), dues())


@given(fixes())
def test_a_fix_comes_back_from_context_as_it_was(fix: Fix) -> None:
    assert Fix.from_wire(fix.wire()) == fix


@pytest.mark.parametrize(
    "value", [None, 5, [], {}, {"lat": 1, "lng": 2}, {"lat": "1", "lng": 2, "timestamp": "x"}]
)
def test_what_is_no_fix_is_none(value: JsonValue) -> None:
    assert Fix.from_wire(value) is None
    assert last_fix(Context.of([], NINE)) is None
