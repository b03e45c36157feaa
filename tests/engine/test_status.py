"""Every state and every step: a known state after it, or our error that names both."""

from __future__ import annotations

from itertools import product

import pytest

from server.engine.status import STEPS, IllegalStep, SourceState, Step, step


@pytest.mark.parametrize(("state", "taken"), list(product(SourceState, Step)))
def test_every_step_from_every_state_is_known_or_refused_by_name(state: SourceState, taken: Step) -> None:
    if (state, taken) in STEPS:
        assert step(state, taken) is STEPS[state, taken]
    else:
        with pytest.raises(IllegalStep, match=f"{state.value} does not take the step {taken.value}"):
            step(state, taken)


def test_every_state_can_be_reached_and_left() -> None:
    assert set(STEPS.values()) == set(SourceState)
    assert {state for state, _ in STEPS} == set(SourceState)
    assert all(STEPS[state, Step.REMOVE] is SourceState.OFF for state in SourceState)


def test_the_states_are_the_protocols_words() -> None:
    assert {state.value for state in SourceState} == {"off", "starting", "active", "failing", "blocked"}
