"""The long form: python -m tests.faults [--minutes 5] [--seed N] [--kinds "Redis,drop off"].

It prints the seed of each turn, and what came of it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from random import Random, randrange
from time import monotonic

import anyio

from storage.migrate import migrate
from tests.faults.chaos import Plan, Report, run
from tests.faults.faults import FAULTS
from tests.faults.town import open_town
from tests.support.databases import open_databases
from tests.support.postgres import PostgresServer, start_postgres
from tests.support.reaper import Reaper
from tests.support.redis import RedisServer

__all__ = ["main"]


def main() -> None:
    """Runs until the time is up, each turn with a town of its own and the next seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=randrange(1_000_000))
    parser.add_argument("--kinds", help="only faults whose names contain one of these, by commas")
    asked = parser.parse_args()
    kinds = _kinds(asked.kinds)
    reaper = Reaper()
    try:
        with start_postgres(reaper) as postgres:
            redis = RedisServer(reaper)
            redis.start()
            _turns(postgres, redis, asked.seed, monotonic() + asked.minutes * 60, kinds)
            redis.close()
    finally:
        reaper.close()


def _kinds(asked: str | None) -> tuple[str, ...]:
    parts = (asked or "").split(",")
    return tuple(name for name in FAULTS if any(part.strip() in name for part in parts))


def _turns(
    postgres: PostgresServer, redis: RedisServer, seed: int, until: float, kinds: tuple[str, ...]
) -> None:
    with open_databases(postgres) as databases:
        while monotonic() < until:
            database = postgres.dsn(databases.create(databases.template("migrated", migrate)))
            print(f"seed {seed}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                report = anyio.run(_turn, postgres, redis, database, Path(folder), seed, kinds)
            print(f"seed {seed}: {report}", flush=True)
            seed += 1


async def _turn(
    postgres: PostgresServer,
    redis: RedisServer,
    database: str,
    folder: Path,
    seed: int,
    kinds: tuple[str, ...],
) -> Report:
    # The seed decides how long the faults of this turn last, which at thirty seconds are few.
    rng = Random(seed)
    lasts_s, rounds = rng.choice(((3.0, 5), (12.0, 2), (30.0, 1)))
    plan = Plan(seed=seed, rounds=rounds, faults_each=min(5, len(kinds)), lasts_s=lasts_s, kinds=kinds)
    async with open_town(postgres, redis, database, folder, rng=rng) as town:
        return await run(town, plan)


if __name__ == "__main__":
    main()
