"""What the bus needs of the Redis library, with types of our own: one subscribed connection, and publishing.

The library's types and errors stop here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, cast

from anyio import CancelScope, move_on_after
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

__all__ = ["Connected", "Heard", "LinkBroken", "RedisLink"]

_CLOSE_S: Final = 2.0


class LinkBroken(Exception):
    """Redis does not answer, or not as it should. The text is safe to show: no password is in it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came over the subscribed connection: a message, or the word that a subscription holds."""

    channel: bytes
    data: bytes | None
    """None: from now on messages of this channel come."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A client, and what must be closed with it (the clients of sentinels)."""

    client: Redis
    others: tuple[Redis, ...] = ()


class _PubSub(Protocol):
    """As much of the library's PubSub as is used, since its own signatures leave gaps."""

    async def subscribe(self, *channels: bytes) -> None: ...
    async def unsubscribe(self, *channels: bytes) -> None: ...
    async def get_message(self, *, timeout: float | None) -> dict[str, object] | None: ...
    async def aclose(self) -> None: ...


class _Pipeline(Protocol):
    async def __aenter__(self) -> _Pipeline: ...
    async def __aexit__(self, *_: object) -> None: ...
    def publish(self, channel: bytes, message: bytes) -> object: ...
    async def execute(self) -> object: ...


class _Client(Protocol):
    def pipeline(self, *, transaction: bool) -> _Pipeline: ...
    async def info(self, section: str) -> dict[str, object]: ...
    async def aclose(self) -> None: ...


class _OneLife(PubSub):
    """The library connects again by itself when a connection is lost, and then reports the loss. What it
    connected is thrown away: subscribing all channels for it in one command would be for nothing."""

    async def on_connect(self, connection: object) -> None:
        """Called by the library for every connection: nothing is subscribed to again."""


class RedisLink:
    """One client's life: made by `open`, useless after the first LinkBroken."""

    def __init__(self, client: Redis) -> None:
        """Use `open`."""
        self._client = cast("_Client", client)
        self._pubsub = cast("_PubSub", _OneLife(client.connection_pool))

    @classmethod
    @asynccontextmanager
    async def open(cls, connect: Callable[[], Connected]) -> AsyncGenerator[RedisLink]:
        """Nothing is connected before the first call. Closed within a moment, however Redis is."""
        connected = connect()
        link = cls(connected.client)
        try:
            yield link
        finally:
            with CancelScope(shield=True):
                await link._close(cast("tuple[_Client, ...]", connected.others))

    async def subscribe(self, channels: Sequence[bytes]) -> None:
        """Asks for these; each is confirmed by a `Heard` without data."""
        if channels:
            with _translated():
                await self._pubsub.subscribe(*channels)

    async def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Asks for these no more."""
        if channels:
            with _translated():
                await self._pubsub.unsubscribe(*channels)

    async def listen(self) -> Heard | None:
        """Waits for whatever comes next; None: nothing for us. Only after a first `subscribe`."""
        with _translated():
            message = await self._pubsub.get_message(timeout=None)
        if message is None:
            return None
        channel, data = message.get("channel"), message.get("data")
        if not isinstance(channel, bytes):
            return None
        match message.get("type"):
            case "message" if isinstance(data, bytes):
                return Heard(channel, data)
            case "subscribe":
                return Heard(channel, None)
            case _:
                return None

    async def publish(self, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Publishes (channel, data) pairs in one go."""
        with _translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for channel, data in messages:
                    pipe.publish(channel, data)
                await pipe.execute()

    async def version(self) -> str:
        """What runs there."""
        with _translated():
            facts = await self._client.info("server")
        return str(facts.get("redis_version", "?"))

    async def _close(self, others: tuple[_Client, ...]) -> None:
        for part in (self._pubsub, self._client, *others):
            with move_on_after(_CLOSE_S):
                try:
                    await part.aclose()
                except (RedisError, OSError, RuntimeError):
                    # What is broken can't be closed any better.
                    continue


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (RedisError, OSError, EOFError) as error:
        raise LinkBroken(
            f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        ) from error
