"""The same things over and over: settings changed and changed back, connections made and left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio

from server.sources.synthetic import SYNTHETIC_ID
from tests.load.client import Client, Target
from tests.load.following import Tally
from tests.soak.house import House, Sample

__all__ = ["Churn", "connects", "run", "swaps", "wrong"]

_AT_ONCE = 8
_SWAPPERS = 16
# What an allocator keeps of the peaks of a run; a leak of a hundred bytes a connect is five MiB of fifty
# thousand.
_SLACK = 0.03
_SLACK_BYTES = 3 << 20


@dataclass(frozen=True)
class Churn:
    """How a server stood at rest: after the warm-up, and after each part of the rest."""

    rests: Sequence[Sample]
    faults: Sequence[str]


async def run(
    house: House,
    *,
    users: int,
    n_swaps: int,
    n_connects: int,
    evict: bool,
    parts: int = 1,
    heard: Callable[[Sample], None] = lambda _: None,
) -> Churn:
    """As many of both, in so many parts, and what is held at rest between them; `heard` is told at once.

    `evict` says that the house lets idle sessions go, so that at rest there is none. A tenth more comes
    first, as warm-up: what is made once and kept is no leak.
    """
    names = [f"churn-{number}" for number in range(users)]
    target, tally = house.target(names), Tally()
    rests: list[Sample] = []
    for share in (0.1, *(1 / parts for _ in range(parts))):
        await connects(target, names, tally, max(users, math.ceil(n_connects * share)))
        await swaps(target, names[:_SWAPPERS], tally, math.ceil(n_swaps * share))
        rest = await house.at_rest(sessions=0 if evict else None, before=rests[0] if rests else None)
        rests.append(rest)
        heard(rest)
    return Churn(rests, tally.faults)


def wrong(churn: Churn) -> list[str]:
    """What did not come back to where it was."""
    before, after = churn.rests[0], churn.rests[-1]
    found = [f"{name}: {was} before, {now} after" for name, (was, now) in after.above(before).items()]
    if after.connections:
        found.append(f"{after.connections} connections did not end")
    grown = after.rss - before.rss
    if grown > _SLACK_BYTES + before.rss * _SLACK:
        found.append(f"{grown / (1 << 20):.1f} MiB more than {before.rss / (1 << 20):.1f} MiB before")
    return [*found, *churn.faults]


async def connects(target: Target, users: list[str], tally: Tally, number: int) -> None:
    """So many connections, a few at a time: each gets its feed; half say goodbye, half just go."""
    turns = iter(range(number))
    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(_connect, turns, target, users, tally)


async def _connect(turns: Iterator[int], target: Target, users: list[str], tally: Tally) -> None:
    for turn in turns:
        client = Client(turn, users[turn % len(users)], target, tally, None, None)
        await client.connect()
        if turn % 2:
            client.drop()
        else:
            await client.leave()


async def swaps(target: Target, users: list[str], tally: Tally, number: int) -> None:
    """So many changes of the settings of a source, each by a connection that sees what comes of it."""
    turns = iter(range(number))
    async with anyio.create_task_group() as group:
        for place, user in enumerate(users):
            group.start_soon(_swap, turns, Client(place, user, target, tally, None, None))


async def _swap(turns: Iterator[int], client: Client) -> None:
    await client.connect()
    for turn in turns:
        config = {"items": 4 + turn % 3, "bytes": 50, "ratePerS": 0, "seed": turn % 7}
        given = {"sourceId": SYNTHETIC_ID, "enabled": turn % 10 > 0, "config": config}
        await client.ask("source.put", given)
    await client.leave()
