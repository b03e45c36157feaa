from __future__ import annotations

from dataclasses import replace

import pytest

from server.enhancement.gate import Breaker, Decision, Facts, decide
from server.enhancement.options import EnhancementOptions

OPTIONS = EnhancementOptions()
NOW = 1_000.0
OPEN = Facts(
    listening=True,
    opted_out=False,
    input_hash=b"new",
    answered_hash=b"old",
    changed_at=NOW - 60,
    last_began=None,
)


def test_it_runs_when_every_gate_is_open() -> None:
    assert decide(OPEN, 0.0, NOW, OPTIONS) == Decision(0.0)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(OPEN, listening=False), "nobodyListens"),
        (replace(OPEN, opted_out=True), "optedOut"),
        (replace(OPEN, input_hash=None), "nothingOpen"),
        (replace(OPEN, answered_hash=b"new"), "sameInput"),
    ],
)
def test_some_gates_do_not_open_by_waiting(facts: Facts, reason: str) -> None:
    decision = decide(facts, 0.0, NOW, OPTIONS)
    assert (decision.wait_s, decision.reason) == (None, reason)


@pytest.mark.parametrize(
    ("facts", "breaker_until", "wait_s", "reason"),
    [
        (replace(OPEN, changed_at=NOW), 0.0, 2.0, "debounce"),
        (replace(OPEN, last_began=NOW - 10), 0.0, 20.0, "interval"),
        (replace(OPEN, not_before=NOW + 45), 0.0, 45.0, "refused"),
        (OPEN, NOW + 33, 33.0, "breaker"),
        (replace(OPEN, changed_at=NOW, last_began=NOW - 1), NOW + 99, 99.0, "breaker"),
    ],
)
def test_other_gates_say_how_long(facts: Facts, breaker_until: float, wait_s: float, reason: str) -> None:
    decision = decide(facts, breaker_until, NOW, OPTIONS)
    assert decision == Decision(pytest.approx(wait_s), reason)  # pyright: ignore[reportArgumentType] -- compares as a float


def test_the_breaker_opens_after_failures_in_a_row_and_longer_each_time() -> None:
    breaker = Breaker(OPTIONS)
    for _ in range(4):
        breaker.failed(NOW)
    assert breaker.until == 0.0
    waits: list[float] = []
    for _ in range(8):
        breaker.failed(NOW)
        waits.append(breaker.until - NOW)
    assert waits == [30, 60, 120, 240, 480, 600, 600, 600]
    breaker.succeeded()
    assert (breaker.failures, breaker.until) == (0, 0.0)


def test_an_endpoint_that_asks_to_be_left_alone_is() -> None:
    breaker = Breaker(OPTIONS)
    breaker.failed(NOW, retry_after_s=90)
    assert breaker.until == NOW + 90
    breaker.failed(NOW, retry_after_s=1e9)
    assert breaker.until == NOW + OPTIONS.breaker_most_s
