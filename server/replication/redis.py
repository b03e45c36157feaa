"""The bus over Redis pub/sub: one subscribed connection a process, a channel for each user with a session here.

Pub/sub keeps nothing: what is said while a connection is away is lost, and no error tells so. So the bus asks
itself, through its own subscription, whether words still get round (a PING would only show that the server
lives), and calls itself broken when they don't. Breaks cost speed, not truth: see `bus.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED, CancelScope
from anyio.abc import TaskStatus
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from protocol.ids import ReplicaId, UserId
from server.replication.bus import BusStatistics, Hint

__all__ = ["RedisBus", "RedisBusOptions"]

_CLOSE_S: Final = 2.0

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RedisBusOptions:
    """How patient the bus is, and what it keeps."""

    probe_every_s: float = 5.0
    probe_misses: int = 2
    """Echoes missed in a row that make a break."""

    backoff_s: float = 0.2
    backoff_most_s: float = 5.0
    batch: int = 500
    """Channels of one SUBSCRIBE, and hints of one pipeline."""

    most_waiting: int = 10_000
    """Users whose hints wait to be sent; past it the oldest hint is dropped (the look mends)."""

    namespace: str = "freya"
    """Before every channel's name: servers that share a Redis and not a database need two."""


class RedisBus:
    """See `Bus`. `connect` makes a new client at each call (`RedisAddress.connector`)."""

    def __init__(
        self,
        connect: Callable[[], Redis],
        replica: ReplicaId,
        *,
        options: RedisBusOptions | None = None,
        rng: Random | None = None,
    ) -> None:
        self._connect = connect
        self._options = options or RedisBusOptions()
        self._rng = rng or Random()
        name = self._options.namespace
        self._user_prefix = f"{name}:user:".encode()
        self._everybody = f"{name}:everybody".encode()
        self._echo = f"{name}:echo:{replica}".encode()
        self._own = f" {replica}".encode()
        self._watched: set[UserId] = set()
        self._to_watch: dict[UserId, bool] = {}
        self._outgoing: dict[UserId | None, int] = {}
        self._wake_sender = anyio.Event()
        self._wake_subscriber = anyio.Event()
        self._linked = False
        self._told = True
        self._on_hint: Callable[[Hint], None] = _nobody
        self._on_health: Callable[[bool], None] = _nobody
        self._probe_number = 0
        self._echoed = 0
        self._announced = self._received = self._dropped = self._breaks = 0

    @property
    def healthy(self) -> bool:
        return self._linked

    def announce(self, hint: Hint) -> None:
        self._announced += 1
        seq = max(hint.seq, self._outgoing.pop(hint.user, hint.seq))
        if len(self._outgoing) >= self._options.most_waiting:
            del self._outgoing[next(iter(self._outgoing))]
            self._dropped += 1
        self._outgoing[hint.user] = seq
        self._wake_sender.set()

    def watch(self, user: UserId) -> None:
        if user not in self._watched:
            self._watched.add(user)
            self._to_watch[user] = True
            self._wake_subscriber.set()

    def unwatch(self, user: UserId) -> None:
        if user in self._watched:
            self._watched.discard(user)
            self._to_watch[user] = False
            self._wake_subscriber.set()

    async def run(
        self,
        on_hint: Callable[[Hint], None],
        on_health: Callable[[bool], None],
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        self._on_hint, self._on_health = on_hint, on_health
        started = _Once(task_status.started)
        backoff = self._options.backoff_s
        while True:
            was_linked = await self._link(started)
            self._turn(linked=False)
            started()
            backoff = (
                self._options.backoff_s if was_linked else min(backoff * 2, self._options.backoff_most_s)
            )
            await anyio.sleep(backoff * (0.5 + self._rng.random() / 2))

    def statistics(self) -> BusStatistics:
        return BusStatistics(self._announced, self._received, self._dropped, len(self._watched), self._breaks)

    # One connection's life

    async def _link(self, started: Callable[[], None]) -> bool:
        """Connects and serves until something breaks; whether words ever got round."""
        client = self._connect()
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        was_linked = False
        try:
            async with anyio.create_task_group() as tasks:
                scope = tasks.cancel_scope

                async def guard(work: Callable[[], Awaitable[None]]) -> None:
                    # Whichever breaks first ends the others: there is one connection's life here.
                    try:
                        await work()
                    except (RedisError, OSError, TimeoutError) as error:
                        if self._linked:
                            _log.warning("bus_broken", error=type(error).__name__)
                        scope.cancel()

                self._to_watch.clear()
                await guard(lambda: pubsub.subscribe(self._everybody, self._echo))
                if not scope.cancel_called:
                    tasks.start_soon(guard, lambda: self._read(pubsub))
                    tasks.start_soon(guard, lambda: self._subscribe(pubsub))
                    tasks.start_soon(guard, lambda: self._probe(client, started))
                    tasks.start_soon(guard, lambda: self._send(client))
            was_linked = self._linked
        finally:
            with CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
                await _close(pubsub, client)
        return was_linked

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=None)
            if message is not None:
                self._take(message["channel"], message["data"])

    def _take(self, channel: object, data: object) -> None:
        """Makes a hint of what was heard. Never raises: anybody may publish anything."""
        if not isinstance(channel, bytes) or not isinstance(data, bytes):
            self._dropped += 1
            return
        if channel == self._echo:
            self._echoed = int(data) if data.isdigit() and len(data) < 19 else self._echoed
            return
        number, _, origin = data.partition(b" ")
        if not number.isdigit() or len(number) > 18 or len(origin) > 128:
            self._dropped += 1
            return
        if b" " + origin == self._own:
            return
        user = self._user_of(channel)
        if user is None and channel != self._everybody:
            self._dropped += 1
            return
        self._received += 1
        self._on_hint(Hint(user, int(number)))

    def _user_of(self, channel: bytes) -> UserId | None:
        if not channel.startswith(self._user_prefix):
            return None
        try:
            return UserId(channel[len(self._user_prefix) :].decode())
        except UnicodeDecodeError:
            return None

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Follows who is watched, in batches: first everybody who is, then the changes."""
        for users in _chunks(list(self._watched), self._options.batch):
            await pubsub.subscribe(*[self._channel(user) for user in users if user in self._watched])
        while True:
            await self._wake_subscriber.wait()
            self._wake_subscriber = anyio.Event()
            changes, self._to_watch = self._to_watch, {}
            for users in _chunks([user for user, on in changes.items() if on], self._options.batch):
                await pubsub.subscribe(*[self._channel(user) for user in users])
            for users in _chunks([user for user, on in changes.items() if not on], self._options.batch):
                await pubsub.unsubscribe(*[self._channel(user) for user in users])

    async def _send(self, client: Redis) -> None:
        while True:
            await self._wake_sender.wait()
            self._wake_sender = anyio.Event()
            while self._outgoing:
                batch = list(islice(self._outgoing.items(), self._options.batch))
                async with client.pipeline(transaction=False) as pipe:
                    for user, seq in batch:
                        # Out before it is sent: of two sendings one could arrive twice, none is no harm.
                        del self._outgoing[user]
                        channel = self._everybody if user is None else self._channel(user)
                        pipe.publish(channel, str(seq).encode() + self._own)
                    try:
                        await pipe.execute()
                    except (RedisError, OSError, TimeoutError):
                        self._dropped += len(batch)
                        raise

    async def _probe(self, client: Redis, started: Callable[[], None]) -> None:
        """Sends itself a number now and then, and waits to hear it."""
        misses = 0
        while True:
            self._probe_number += 1
            number = self._probe_number
            # The first answer is waited for in small steps: it is what makes the bus healthy.
            await client.publish(self._echo, str(number))
            with anyio.move_on_after(self._options.probe_every_s):
                while self._echoed < number:
                    await anyio.sleep(self._options.probe_every_s / 100)
            if self._echoed >= number:
                misses = 0
                self._turn(linked=True)
                started()
                await anyio.sleep(self._options.probe_every_s)
                continue
            misses += 1
            if misses >= self._options.probe_misses:
                raise TimeoutError

    def _turn(self, *, linked: bool) -> None:
        if self._linked and not linked:
            self._breaks += 1
        self._linked = linked
        if self._told != linked:
            self._told = linked
            self._on_health(linked)

    def _channel(self, user: UserId) -> bytes:
        return self._user_prefix + user.encode()


class _Once:
    """Calls a function the first time only."""

    def __init__(self, fn: Callable[[], None]) -> None:
        self._fn: Callable[[], None] | None = fn

    def __call__(self) -> None:
        fn, self._fn = self._fn, None
        if fn is not None:
            fn()


def _nobody(_: object) -> None:
    """Before `run`."""


def _chunks(users: list[UserId], size: int) -> Iterable[list[UserId]]:
    return (users[start : start + size] for start in range(0, len(users), size))


async def _close(pubsub: PubSub, client: Redis) -> None:
    try:
        await pubsub.aclose()
        await client.aclose()
    except (RedisError, OSError):
        pass
