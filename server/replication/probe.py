"""One question to Redis, for whoever wants to know whether it can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import anyio

from server.replication.address import RedisAddress
from server.replication.redis_link import LinkBroken, RedisLink

__all__ = ["BusUnreachable", "RedisFacts", "ask_redis"]


class BusUnreachable(Exception):
    """Redis did not answer. The text names no password."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What it said, and how long that took."""

    version: str
    seconds: float


async def ask_redis(url: str, timeout_s: float = 5.0) -> RedisFacts:
    """Connects, asks for the version, and leaves. Raises BusUnreachable."""
    try:
        address = RedisAddress.parse(url, timeout_s=timeout_s)
        # The library connects through several names or sentinels one after another, each with its patience.
        with anyio.fail_after(timeout_s):
            async with RedisLink.open(address.connector()) as link:
                began = perf_counter()
                return RedisFacts(await link.version(), perf_counter() - began)
    except TimeoutError as error:
        raise BusUnreachable("no answer in time") from error
    except (LinkBroken, ValueError) as error:
        raise BusUnreachable(str(error)) from error
