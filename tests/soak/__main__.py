"""python -m tests.soak [--minutes 10] [--svg FILE], or --churn for the counted form.

Ends with 1 where memory was not flat, something was left over, or a client saw what it should not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import randrange
from time import monotonic

import anyio

from storage.migrate import migrate
from tests.load.report import plot
from tests.soak import churn, verdict
from tests.soak.house import House, Sample, open_house
from tests.soak.load import Load, mixed_load
from tests.support.databases import open_databases
from tests.support.postgres import start_postgres
from tests.support.reaper import Reaper
from tests.support.redis import RedisServer

__all__ = ["main"]

_EVERY_S = 2.0
_FIRST_S = 10.0
_USERS, _PARTS = 1000, 5
_MIB = 1 << 20
_HEIGHT = 200


def main() -> int:
    """0: what was held came back to where it was, and memory was flat meanwhile."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of mixed load (10)")
    parser.add_argument("--seed", type=int, default=randrange(1_000_000))
    parser.add_argument("--svg", type=Path, help="draw it there")
    parser.add_argument("--churn", action="store_true", help="instead: so many of the same, counted")
    parser.add_argument("--swaps", type=int, default=10_000, help="changes of settings (10,000)")
    parser.add_argument("--connects", type=int, default=50_000, help="connects and disconnects (50,000)")
    asked = parser.parse_args()
    with _house() as house:
        if asked.churn:
            found = anyio.run(_churned, house, asked.swaps, asked.connects)
        else:
            _say(f"seed {asked.seed}")
            found = anyio.run(_soaked, house, asked.minutes * 60, asked.seed, asked.svg)
    for sentence in found:
        _say(f"wrong: {sentence}")
    return 1 if found else 0


@contextmanager
def _house() -> Generator[House]:
    """A house whose idle sessions end as soon as anybody looks, so that they come and go."""
    reaper = Reaper()
    try:
        with start_postgres(reaper) as postgres, open_databases(postgres) as databases:
            database = postgres.dsn(databases.create(databases.template("migrated", migrate)))
            redis = RedisServer(reaper)
            redis.start()
            with open_house(database, redis, FREYA_SESSION_IDLE_TTL_S="1") as house:
                yield house
            redis.close()
    finally:
        reaper.close()


async def _churned(house: House, swaps: int, connects: int) -> list[str]:
    began_s = monotonic()
    done = await churn.run(
        house,
        users=_USERS,
        n_swaps=swaps,
        n_connects=connects,
        evict=True,
        parts=_PARTS,
        heard=lambda rest: _tell("at rest", rest),
    )
    _say(f"{swaps} swaps and {connects} connects in {_PARTS} parts: {monotonic() - began_s:.0f} s")
    return churn.wrong(done)


async def _soaked(house: House, seconds: float, seed: int, svg: Path | None) -> list[str]:
    # What is opened when it is first needed, and kept (a second connection to Redis), is there afterwards.
    async with mixed_load(house, seed):
        await anyio.sleep(_FIRST_S)
    before = await house.at_rest(sessions=0)
    _tell("before", before)
    samples: list[Sample] = []
    async with mixed_load(house, seed) as load:
        until = monotonic() + seconds
        while monotonic() < until:
            await anyio.sleep(_EVERY_S)
            samples.append(await house.sample())
            if len(samples) % 30 == 0:
                _tell("load", samples[-1])
        _done(load)
    after = await house.at_rest(sessions=0, before=before)
    _tell("after", after)
    soak = verdict.Soak(before, samples, after, load.faults)
    first, last = verdict.steady(samples)
    _say(f"memory: {first / _MIB:.1f} MiB after the warm-up, {last / _MIB:.1f} MiB at the end")
    if svg is not None:
        await anyio.Path(svg).write_text(drawn(samples))
    return verdict.wrong(soak)


def drawn(samples: Sequence[Sample]) -> str:
    """The course of it, one plot below the other."""
    minutes = [(sample.at_s - samples[0].at_s) / 60 for sample in samples]

    def line(name: str, unit: float = 1) -> list[tuple[float, float]]:
        return [(at, getattr(sample, name) / unit) for at, sample in zip(minutes, samples, strict=True)]

    plots = (
        {"resident memory (MiB)": line("rss", _MIB)},
        {
            "sessions": line("sessions"),
            "connections": line("connections"),
            "Redis channels": line("channels"),
        },
        {"tasks": line("tasks"), "descriptors": line("descriptors")},
    )
    parts = [
        plot(lines, "min").replace("<svg ", f'<svg y="{number * _HEIGHT}" height="{_HEIGHT}" ', 1)
        for number, lines in enumerate(plots)
    ]
    whole = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {len(plots) * _HEIGHT}" width="640">'
    # A background of its own: the page that it stands in may be dark or light.
    return "\n".join([whole, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def _done(load: Load) -> None:
    _say(
        f"{load.connects} connects, {load.swaps} changes of settings, {load.publishes} publications,"
        f" {load.stalls} times a socket was not read"
    )


def _tell(when: str, sample: Sample) -> None:
    _say(
        f"{when}: {sample.rss / _MIB:.1f} MiB, {sample.tasks} tasks, {sample.descriptors} descriptors,"
        f" {sample.channels} channels, {sample.sessions} sessions, {sample.connections} connections"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
