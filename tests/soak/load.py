"""Everything at once: some stay, some come and go, some write, some do not read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import anyio

from protocol.client import LiveFeed, Status, connect
from server.sources.synthetic import SYNTHETIC_ID
from tests.load.client import Client
from tests.load.following import Tally
from tests.soak.house import House

__all__ = ["Load", "mixed_load"]

_USERS = 150
_RESIDENTS = 15
# Means of pauses, in seconds: together a third of a core, so that the driver has room beside the server.
_VISIT_S, _STAY_S = 0.2, 1.0
_SWAP_S, _PUBLISH_S, _STALL_S = 0.1, 0.05, 8.0
_VISITORS, _SLOW = 12, 4


class Load:
    """What was done so far, and what was wrong."""

    def __init__(self, house: House, seed: int) -> None:
        self.rng = Random(seed)
        self.users = [f"soak-{number}" for number in range(_USERS)]
        self.slow = [f"soak-slow-{number}" for number in range(_SLOW)]
        self.target = house.target([*self.users, *self.slow])
        self.house = house
        self.tally = Tally()
        self.connects = self.swaps = self.publishes = self.stalls = 0
        self.residents: list[LiveFeed] = []

    @property
    def faults(self) -> list[str]:
        """What no client should have seen."""
        gone = [feed for feed in self.residents if feed.status is Status.STOPPED]
        return [*self.tally.faults, *(f"a resident was turned out: {feed.last_end}" for feed in gone)]

    @asynccontextmanager
    async def connected(self, user: str | None = None) -> AsyncGenerator[Client]:
        """A client of that user, or of any. It goes without a word, if it has not gone before."""
        self.connects += 1
        name = user or self.rng.choice(self.users)
        client = Client(self.connects, name, self.target, self.tally, None, None)
        try:
            await client.connect()
            yield client
        finally:
            client.drop()

    async def pause(self, mean_s: float) -> None:
        """As long as chance wants."""
        await anyio.sleep(self.rng.expovariate(1 / mean_s))


@asynccontextmanager
async def mixed_load(house: House, seed: int) -> AsyncGenerator[Load]:
    """The load, for as long as the block runs; then everybody leaves."""
    load = Load(house, seed)
    async with anyio.create_task_group() as group:
        for user in load.users[:_RESIDENTS]:
            group.start_soon(_reside, load, user)
        for _ in range(_VISITORS):
            group.start_soon(_visit, load)
        for user in load.users[:3]:
            group.start_soon(_swap, load, user)
        group.start_soon(_publish, load)
        for user in load.slow:
            group.start_soon(_read_slowly, load, user)
        yield load
        group.cancel_scope.cancel()


async def _reside(load: Load, user: str) -> None:
    async with connect(load.house.url, load.house.token(user)) as feed:
        load.residents.append(feed)
        await anyio.sleep_forever()


async def _visit(load: Load) -> None:
    """Comes, stays a while, goes, and often comes back to where it was."""
    while True:
        async with load.connected() as client:
            while load.rng.random() < 0.6:
                await load.pause(_STAY_S)
                client.drop()
                load.connects += 1
                await client.connect(resume=True)
            await load.pause(_STAY_S)
            if load.rng.random() < 0.5:
                await client.leave()
        await load.pause(_VISIT_S)


async def _swap(load: Load, user: str) -> None:
    async with load.connected(user) as client:
        while True:
            config = {"items": load.rng.randint(1, 30), "bytes": 200, "ratePerS": load.rng.choice((0, 1, 5))}
            given = {"sourceId": SYNTHETIC_ID, "enabled": load.rng.random() < 0.9, "config": config}
            await client.ask("source.put", given)
            given = {"sourceId": "freya.clock", "config": {"greeting": load.rng.random() < 0.5}}
            await client.ask("source.patch", given)
            load.swaps += 2
            await load.pause(_SWAP_S)


async def _publish(load: Load) -> None:
    async with load.connected() as client:
        while True:
            data = {"text": "x" * load.rng.randrange(400)}
            item = {"id": f"note-{load.rng.randrange(30)}", "type": "note", "data": data}
            await client.ask("item.publish", {"feeds": load.rng.sample(load.users, 3), "items": [item]})
            load.publishes += 1
            await load.pause(_PUBLISH_S)


async def _read_slowly(load: Load, user: str) -> None:
    """Stops reading a feed that changes much, until what is written to it waits in the server."""
    while True:
        async with load.connected(user) as client:
            config = {"items": 20, "bytes": 3000, "ratePerS": 50}
            given = {"sourceId": SYNTHETIC_ID, "enabled": True, "config": config}
            await client.ask("source.put", given)
            client.stall()
            load.stalls += 1
            await load.pause(_STALL_S)
            if load.rng.random() < 0.7:
                client.go_on()
                await load.pause(_STAY_S)
