"""Random walks beside the oracle. The seeds are fixed, so that a change is not blamed for another's luck;
FREYA_MODEL_SEED, _WALKS and _STEPS choose others, more and longer ones."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from server.push import PushOptions
from server.session.options import SessionOptions
from tests.model.walk import Walk
from tests.push.conftest import World
from tests.support.clock import TestClock

WALKS = int(os.environ.get("FREYA_MODEL_WALKS", "4"))
STEPS = int(os.environ.get("FREYA_MODEL_STEPS", "20000")) // WALKS
SEED = int(os.environ.get("FREYA_MODEL_SEED", "1"))
LIMITS = PushOptions(
    requests_per_s=1e6, request_burst=1_000_000, publishes_per_s=1e6, publish_burst=1_000_000
)
# Every other walk serves even a feed's only subscriber in a cohort, and in small ones over several turns.
IN_COHORTS = replace(LIMITS, cohorts_from=1, pushes_at_once=8)
CALM = SessionOptions(
    look_every_s=1e9, save_every_s=1e9, sweep_every_s=1e9, prune_every_s=1e9, idle_ttl_s=1e9
)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(SEED, SEED + WALKS))
async def test_every_connection_shows_its_sessions_state_at_its_cursor_and_converges(
    slow_world: World, clock: TestClock, seed: int
) -> None:
    print(f"again: FREYA_MODEL_SEED={seed} FREYA_MODEL_WALKS=1 FREYA_MODEL_STEPS={STEPS}")
    options = IN_COHORTS if seed % 2 else LIMITS
    walk = Walk(await slow_world.start(options=options, sessions=CALM), clock, seed)
    for _ in range(STEPS):
        await walk.step()
    await walk.settle()
    assert walk.oracle.frames > STEPS / 20
