"""The short form: two rounds of faults, and a deployment. `make chaos` goes on for longer."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.faults.chaos import Plan, run
from tests.faults.faults import FAULTS, ROLL
from tests.faults.town import open_town
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer

# Another seed, to see a run again: FAULTS_SEED=7 make test ARGS="tests/faults"
SEED = int(os.environ.get("FAULTS_SEED", "1"))


@pytest.mark.timeout(300)
async def test_a_rolling_restart_under_load_loses_nothing_and_leaves_nobody_behind(
    postgres: PostgresServer, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    plan = Plan(
        seed=SEED,
        rounds=1,
        faults_each=1,
        lasts_s=1.0,
        kinds=(ROLL,),
        patience_s=45.0,
        bus_up_patience_s=45.0,
    )
    async with open_town(postgres, redis_server, database_url, tmp_path, rng=Random(SEED)) as town:
        report = await run(town, plan)
        outputs = [line for replica in town.replicas for line in replica.server.lines]
    assert report.operations > 20
    assert not any("Traceback" in line for line in outputs)


@pytest.mark.timeout(300)
async def test_whatever_fails_nothing_acknowledged_is_lost_and_every_client_comes_to_agree(
    postgres: PostgresServer, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    # Generous: the machine is shared. What it takes on a quiet one is in docs/reliability.md.
    plan = Plan(seed=SEED, rounds=2, faults_each=5, lasts_s=2.0, patience_s=45.0, bus_up_patience_s=45.0)
    async with open_town(postgres, redis_server, database_url, tmp_path, rng=Random(SEED)) as town:
        report = await run(town, plan)
    print(f"seed {SEED}: {report}")
    assert report.faults.total() == plan.rounds * plan.faults_each
    assert set(report.faults) <= set(FAULTS)
    assert report.operations > 100
    assert report.frames > 100
