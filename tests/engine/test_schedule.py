"""When to ask again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.schedule import FOREVER, refresh_delay_s, retry_delay_s, wake_at

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
chances = st.floats(0, 1, exclude_max=True)


@given(st.floats(0.1, 1e6), chances)
def test_a_refresh_comes_within_a_tenth_of_its_period(every_s: float, chance: float) -> None:
    assert 0.89 * every_s <= refresh_delay_s(every_s, chance) <= 1.11 * every_s


@pytest.mark.parametrize("every_s", [0, -1])
def test_no_period_is_no_refresh(every_s: float) -> None:
    assert refresh_delay_s(every_s, 0.5) == FOREVER


@given(st.integers(1, 10_000), chances)
def test_retries_double_up_to_five_minutes(failures: int, chance: float) -> None:
    delay = retry_delay_s("unreachable", failures, None, chance)
    longest = min(300.0, 2.0 ** min(failures, 20))
    assert longest / 2 <= delay <= longest


@given(st.integers(1, 100), chances)
def test_what_a_person_must_put_right_is_asked_seldom(failures: int, chance: float) -> None:
    assert 30 <= retry_delay_s("unauthorized", failures, None, chance) <= 3600
    assert 30 <= retry_delay_s("config", failures, None, chance) <= 3600


@given(st.floats(0, 1e9), chances)
def test_never_sooner_than_the_upstream_asks_and_never_later_than_a_day_or_so(
    retry_after_s: float, chance: float
) -> None:
    delay = retry_delay_s("rateLimited", 1, retry_after_s, chance)
    assert delay >= min(retry_after_s, 86_400)
    assert delay <= 86_400 * 1.1


@given(st.integers(-100, 100))
def test_a_wake_is_never_now(offset_s: int) -> None:
    wanted = NOW + timedelta(seconds=offset_s)
    wake = wake_at(wanted, NOW)
    assert wake is not None
    assert wake > NOW
    assert wake == wanted or offset_s <= 0
    assert wake <= NOW + timedelta(seconds=max(offset_s, 1))


def test_never_stays_never() -> None:
    assert wake_at(None, NOW) is None
