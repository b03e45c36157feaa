from __future__ import annotations

import pytest

from protocol.errors import RateLimited
from protocol.ids import UserId
from server.session.rate import UserRate
from tests.session.conftest import ALICE, BOB
from tests.support.clock import TestClock


async def test_a_burst_is_allowed_and_then_one_at_a_time(clock: TestClock) -> None:
    rate = UserRate(clock, burst=3, every_s=6.0)
    for _ in range(3):
        rate.take(ALICE)
    with pytest.raises(RateLimited) as caught:
        rate.take(ALICE)
    assert caught.value.retry_in_ms == 6000
    await clock.advance(6.0)
    rate.take(ALICE)
    with pytest.raises(RateLimited):
        rate.take(ALICE)


async def test_one_user_does_not_use_up_the_allowance_of_another(clock: TestClock) -> None:
    rate = UserRate(clock, burst=1, every_s=60.0)
    rate.take(ALICE)
    rate.take(BOB)


async def test_what_is_refused_is_not_counted(clock: TestClock) -> None:
    rate = UserRate(clock, burst=1, every_s=1.0)
    rate.take(ALICE)
    for _ in range(100):
        with pytest.raises(RateLimited):
            rate.take(ALICE)
    await clock.advance(1.0)
    rate.take(ALICE)


async def test_any_number_of_users_takes_bounded_memory(clock: TestClock) -> None:
    rate = UserRate(clock, burst=1, every_s=1e6)
    for number in range(10_050):
        rate.take(UserId(f"user-{number}"))
    rate.take(UserId("user-0"))  # forgotten, and so let off
    with pytest.raises(RateLimited):
        rate.take(UserId("user-10049"))
