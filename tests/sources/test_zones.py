from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sources.zones import instant, local_midnight, whole_ms, zone
from tests.sources.reminders.series import ZONES, dues, utc


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/London", "America/Argentina/Ushuaia", "Etc/GMT+12", "EST5EDT"]
)
def test_a_name_of_the_database_is_a_zone(name: str) -> None:
    assert zone(name).key == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Europe",
        "Mars/Olympus",
        "/etc/passwd",
        "../UTC",
        "Europe/../UTC",
        "localtime",
        "right/UTC",
        "UTC ",
        "a\0b",
        "x" * 300,
        "zone.tab",
    ],
)
def test_anything_else_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone(name)


@given(dues(), st.sampled_from(ZONES))
def test_an_instant_comes_back_from_the_clock_on_the_wall(moment: datetime, name: str) -> None:
    local = moment.astimezone(zone(name))
    assert instant(local.replace(tzinfo=None, fold=0), zone(name), local.fold) == moment


@given(dues(), st.sampled_from(ZONES), st.integers(0, 1))
def test_later_on_the_wall_is_never_an_earlier_day(wall: datetime, name: str, fold: int) -> None:
    naive = wall.replace(tzinfo=None)
    assert instant(naive, zone(name), fold) <= instant(naive + timedelta(days=1), zone(name), fold)


def test_a_day_begins_when_the_clocks_change_where_they_skip_midnight() -> None:
    # São Paulo, 2018-11-04: 00:00 became 01:00.
    begin = local_midnight(date(2018, 11, 4), zone("America/Sao_Paulo"))
    assert begin == utc("2018-11-04T03:00")
    assert begin.astimezone(zone("America/Sao_Paulo")).hour == 1


def test_a_time_is_kept_in_whole_milliseconds_of_utc() -> None:
    moment = datetime(2026, 3, 2, 10, 0, 0, 123999, tzinfo=timezone(timedelta(hours=1)))
    assert whole_ms(moment) == datetime(2026, 3, 2, 9, 0, 0, 123000, tzinfo=UTC)
    with pytest.raises(ValueError, match="zone"):
        whole_ms(datetime(2026, 3, 2))  # noqa: DTZ001 -- that is the point
