from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.times import from_ms, from_wire, to_ms, to_wire, utc

AWARE = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001 -- hypothesis adds the zone
    datetime(9998, 12, 31),  # noqa: DTZ001 -- likewise
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=45))]),
)


@pytest.mark.parametrize(
    ("when", "wire"),
    [
        (datetime(2026, 3, 2, 9, 0, tzinfo=UTC), "2026-03-02T09:00:00Z"),
        (datetime(2026, 3, 2, 9, 0, 0, 5_000, tzinfo=UTC), "2026-03-02T09:00:00.005Z"),
        (datetime(2026, 3, 2, 9, 0, 0, 999, tzinfo=UTC), "2026-03-02T09:00:00Z"),
        (datetime(2026, 3, 2, 9, 0, tzinfo=timezone(timedelta(hours=2))), "2026-03-02T07:00:00Z"),
        (datetime(5, 1, 1, tzinfo=UTC), "0005-01-01T00:00:00Z"),
    ],
)
def test_a_time_goes_out_in_utc_with_milliseconds_only_where_there_are_some(
    when: datetime, wire: str
) -> None:
    assert to_wire(when) == wire


@given(AWARE)
def test_a_time_comes_back_as_it_went_to_the_millisecond(when: datetime) -> None:
    back = from_wire(to_wire(when))
    assert back.tzinfo is UTC
    assert timedelta(0) <= when - back < timedelta(milliseconds=1)


def test_any_offset_and_fraction_of_rfc_3339_is_read() -> None:
    assert from_wire("2026-03-02T09:00:00.123456789+05:30") == datetime(
        2026, 3, 2, 3, 30, 0, 123_456, tzinfo=UTC
    )
    assert from_wire("2026-03-02t09:00:00z") == datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-02",
        "2026-03-02T09:00:00",
        "20260302T090000Z",
        "2026-W10-1T09:00:00Z",
        "2026-02-30T09:00:00Z",
        "2026-03-02T25:00:00Z",
        "2026-03-02T09:00:00+99:00",
        "0001-01-01T00:00:00+23:59",
        "٢٠٢٦-03-02T09:00:00Z",
        "2026-03-02T09:00:00Z\n",
    ],
)
def test_what_is_no_time_with_an_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_wire(text)


@given(st.text())
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert from_wire(text).tzinfo is UTC


def test_a_time_without_a_zone_goes_nowhere() -> None:
    naive = datetime(2026, 3, 2)  # noqa: DTZ001 -- what is to be refused
    for convert in (to_wire, utc):
        with pytest.raises(ValueError, match="without a zone"):
            convert(naive)


def test_durations_are_seconds_inside_and_whole_milliseconds_outside() -> None:
    assert to_ms(1.2345) == 1234
    assert from_ms(1234) == 1.234
