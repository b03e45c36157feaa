from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.closing import (
    CLOSE_CODES,
    REFUSALS,
    Advice,
    CloseCode,
    NextStep,
    advice,
    backoff_cap_s,
    retry_in_ms,
    retry_reason,
)
from protocol.reconnect import Decision, End, ReconnectPolicy

# The protocol's table, row by row.
BACKOFF = [1000, 1002, 1005, 1006, 1011, 1012, 1003, 3000, 4999, 0]
AT_ONCE = [1001, 4408]
DONT_RESEND = [1007, 1009]
WAIT = [1013, 4429]
STOP = [4400, 4403, 4409]


@pytest.mark.parametrize("code", BACKOFF)
def test_a_fault_of_the_network_means_backoff_with_full_jitter(code: int) -> None:
    caps = [advice(code, failures=n).to_s for n in range(8)]
    assert caps == [1, 2, 4, 8, 16, 30, 30, 30]
    assert advice(code, failures=3) == Advice(NextStep.RECONNECT, 0.0, 8.0)


@pytest.mark.parametrize("code", AT_ONCE)
def test_a_drain_or_a_missed_heartbeat_means_at_once_with_a_jitter_of_a_second(code: int) -> None:
    assert advice(code, failures=9) == Advice(NextStep.RECONNECT, 0.0, 1.0)


@pytest.mark.parametrize("code", DONT_RESEND)
def test_a_message_that_ended_the_connection_is_not_sent_again(code: int) -> None:
    assert advice(code) == Advice(NextStep.RECONNECT, 0.0, 1.0, resend=False)


@pytest.mark.parametrize("code", WAIT)
def test_overload_means_waiting_as_told_else_half_a_minute(code: int) -> None:
    assert advice(code, "retryInMs=1500") == Advice(NextStep.RECONNECT, 1.5, 1.5)
    assert advice(code, "later") == Advice(NextStep.RECONNECT, 30.0, 30.0)


def test_a_refused_token_means_a_new_one_and_a_second_one_in_a_row_a_new_sign_in() -> None:
    assert advice(4401).step is NextStep.NEW_TOKEN
    assert advice(4401, refusals=1).step is NextStep.SIGN_IN


@pytest.mark.parametrize("code", STOP)
def test_some_ends_are_for_good(code: int) -> None:
    assert advice(code).step is NextStep.STOP


@given(st.integers(), st.text(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_there_is_an_advice_for_any_end_and_it_never_waits_for_long(
    code: int, reason: str, failures: int, refusals: int
) -> None:
    advised = advice(code, reason, failures=failures, refusals=refusals)
    assert 0 <= advised.from_s <= advised.to_s <= 900


def test_every_code_is_explained_once_and_every_refusal_is_one_of_them() -> None:
    assert set(CLOSE_CODES) == set(CloseCode)
    assert all(kind.code is code and kind.means and kind.client_does for code, kind in CLOSE_CODES.items())
    assert {int(code) for code in REFUSALS.values()} == {4400, 4401, 4403, 4429, 1013}


@pytest.mark.parametrize(
    ("reason", "told_ms"),
    [
        ("retryInMs=0", 0),
        ("busy; retryInMs=250", 250),
        (retry_reason(1234), 1234),
        ("retryInMs=999999999", 900_000),
        ("retryInMs=", None),
        ("retryInMs=-5", None),
        ("dontretryInMs=5", None),
        ("", None),
    ],
)
def test_what_a_reason_says_about_coming_back_is_read_and_bounded(reason: str, told_ms: int | None) -> None:
    assert retry_in_ms(reason) == told_ms


def test_the_cap_of_the_backoff_stays_where_it_is() -> None:
    assert backoff_cap_s(10**9) == 30


def test_a_draw_chooses_between_the_bounds() -> None:
    assert [Advice(NextStep.RECONNECT, 1.0, 3.0).delay_s(draw) for draw in (0.0, 0.5, 1.0)] == [1.0, 2.0, 3.0]


def test_the_backoff_doubles_over_failures_and_starts_anew_after_a_steady_connection() -> None:
    policy = ReconnectPolicy(lambda: 1.0)
    lost = End(1006)
    assert [policy.ended(lost, 0.0).delay_s for _ in range(4)] == [1, 2, 4, 8]
    assert policy.ended(lost, 29.9).delay_s == 16
    assert policy.ended(lost, 30.0).delay_s == 1
    assert policy.ended(lost, 0.0).delay_s == 2


def test_a_second_refusal_counts_only_where_no_welcome_came_between() -> None:
    policy = ReconnectPolicy(lambda: 0.0)
    refused = End(4401)
    assert policy.ended(refused, 0.0).step is NextStep.NEW_TOKEN
    policy.welcomed()
    assert policy.ended(refused, 5.0).step is NextStep.NEW_TOKEN
    assert policy.ended(End(1006), 0.0) == Decision(NextStep.RECONNECT, 0.0)
    assert policy.ended(refused, 0.0).step is NextStep.SIGN_IN
