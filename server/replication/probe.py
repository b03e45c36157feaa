"""Whether Redis can be reached: asked once at the start, where somebody looks on, and by `freya doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import anyio
import structlog

from protocol.ids import ReplicaId
from server.cannot_start import CannotStart
from server.replication.address import RedisAddress
from server.replication.redis import RedisBus
from server.replication.redis_link import LinkBroken, RedisLink

__all__ = ["BusUnreachable", "RedisFacts", "ask_redis", "open_redis_bus"]

_log = structlog.stdlib.get_logger(__name__)


class BusUnreachable(CannotStart):
    """Redis did not answer. The text names no password."""

    advice = "To start without it, and follow when it comes: FREYA_REDIS_REQUIRED=0"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What it said, and how long that took."""

    version: str
    seconds: float


async def open_redis_bus(url: str, replica: ReplicaId, *, timeout_s: float, required: bool) -> RedisBus:
    """A bus over that Redis. Where nothing answers now: raises BusUnreachable if it is `required`; else the
    bus begins as broken, and follows when Redis comes.

    A wrong address is always an error: it would never get well.
    """
    try:
        address = RedisAddress.parse(url, timeout_s=timeout_s)
    except ValueError as error:
        raise BusUnreachable(f"REDIS_URL {error}") from error
    try:
        await ask_redis(url, timeout_s=timeout_s)
    except BusUnreachable as problem:
        if required:
            raise BusUnreachable(f"Redis does not answer at {address.shown} (REDIS_URL): {problem}") from None
        _log.warning("redis_away", address=address.shown, problem=str(problem))
    return RedisBus(address.connector(), replica)


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
