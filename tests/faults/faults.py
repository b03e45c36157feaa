"""What goes wrong. Each fault is begun, lasts, and is over when its function returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Final, TypeAlias

import anyio
from anyio import to_thread

from tests.faults.town import Replica, Town

__all__ = ["FAULTS", "OF_THE_BUS", "ROLL", "Fault"]

Fault: TypeAlias = Callable[[Town, Random, float], Awaitable[None]]
"""Is told how long it should last, in seconds, where it lasts."""


async def _kill_a_replica(town: Town, rng: Random, lasts_s: float) -> None:
    replica = _any(town, rng)
    await replica.kill()
    await anyio.sleep(lasts_s / 4)
    await replica.start()


async def _restart_a_replica(town: Town, rng: Random, lasts_s: float) -> None:
    replica = _any(town, rng)
    await replica.stop()
    await replica.start()


async def _roll(town: Town, rng: Random, lasts_s: float) -> None:
    for replica in town.replicas:
        await replica.stop()
        await replica.start()


async def _freeze_a_replica(town: Town, rng: Random, lasts_s: float) -> None:
    replica = _any(town, rng)
    replica.freeze()
    await anyio.sleep(lasts_s)
    replica.thaw()


async def _restart_redis(town: Town, rng: Random, lasts_s: float) -> None:
    await to_thread.run_sync(town.redis.restart)


async def _take_redis_away(town: Town, rng: Random, lasts_s: float) -> None:
    await to_thread.run_sync(town.redis.kill)
    await anyio.sleep(lasts_s)
    await to_thread.run_sync(town.redis.start)


async def _pause_redis(town: Town, rng: Random, lasts_s: float) -> None:
    town.redis.command(f"CLIENT PAUSE {round(lasts_s * 1000)} ALL")
    await anyio.sleep(lasts_s)


async def _kill_subscriptions(town: Town, rng: Random, lasts_s: float) -> None:
    town.redis.command("CLIENT KILL TYPE pubsub")


async def _half_open_to_redis(town: Town, rng: Random, lasts_s: float) -> None:
    replica = _any(town, rng)
    replica.to_redis.hold()
    await anyio.sleep(lasts_s)
    replica.to_redis.cut()
    replica.to_redis.release()


async def _restart_postgres(town: Town, rng: Random, lasts_s: float) -> None:
    await to_thread.run_sync(town.postgres.restart)


async def _take_postgres_away(town: Town, rng: Random, lasts_s: float) -> None:
    await to_thread.run_sync(town.postgres.stop)
    await anyio.sleep(lasts_s / 3)
    await to_thread.run_sync(town.postgres.start)


async def _half_open_clients(town: Town, rng: Random, lasts_s: float) -> None:
    lines = rng.sample(town.client_lines(), k=min(4, len(town.client_lines())))
    for line in lines:
        line.hold()
    await anyio.sleep(lasts_s)
    for line in lines:
        line.cut()


async def _stop_reading(town: Town, rng: Random, lasts_s: float) -> None:
    lines = rng.sample(town.client_lines(), k=min(4, len(town.client_lines())))
    for line in lines:
        line.hold(only_down=True)
    await anyio.sleep(lasts_s)
    for line in lines:
        line.release()


async def _drop_clients(town: Town, rng: Random, lasts_s: float) -> None:
    for line in rng.sample(town.client_lines(), k=min(8, len(town.client_lines()))):
        line.cut()


ROLL: Final = "all replicas are restarted in order, one after another"

FAULTS: Final[Mapping[str, Fault]] = {
    "a replica is killed": _kill_a_replica,
    "a replica is restarted in order": _restart_a_replica,
    ROLL: _roll,
    "a replica stands still": _freeze_a_replica,
    "Redis is restarted": _restart_redis,
    "Redis is gone": _take_redis_away,
    "Redis pauses its clients": _pause_redis,
    "subscriptions are killed": _kill_subscriptions,
    "a replica's link to Redis is half open": _half_open_to_redis,
    "PostgreSQL is restarted": _restart_postgres,
    "PostgreSQL is gone": _take_postgres_away,
    "links of clients are half open": _half_open_clients,
    "sockets stop reading": _stop_reading,
    "clients drop off": _drop_clients,
}

OF_THE_BUS: Final = frozenset(name for name in FAULTS if "Redis" in name or "subscriptions" in name)
"""Those after which a replica may have to find its way back to the bus, and learns by looking till then."""


def _any(town: Town, rng: Random) -> Replica:
    return rng.choice([replica for replica in town.replicas if replica.up])
