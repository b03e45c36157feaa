"""One question to Redis, for whoever wants to know whether it can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError

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
        with anyio.fail_after(timeout_s):
            # The library's own types leave gaps here.
            async with Redis.from_url(url) as redis:  # pyright: ignore[reportUnknownMemberType] -- see above
                began = perf_counter()
                facts = await redis.info("server")  # pyright: ignore[reportUnknownMemberType] -- see above
                return RedisFacts(str(facts.get("redis_version", "?")), perf_counter() - began)
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        raise BusUnreachable(
            f"{type(error).__name__}: {error}" if str(error) else "no answer in time"
        ) from error
