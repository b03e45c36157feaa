"""The bus over Redis pub/sub: one subscribed connection, and a channel for each user with a session here.

Pub/sub keeps nothing: what is said while a connection is away is lost, and no error tells so. So the bus asks
itself, through its own subscription, whether words still get round (a PING would only show that the server
lives), and calls itself broken when they don't. Breaks cost speed, not truth: see `bus.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED, Event, create_task_group, fail_after, move_on_after
from anyio.abc import TaskStatus

from protocol.ids import ReplicaId, UserId
from server.replication.bus import MAX_WORD_BYTES, BusStatistics, Hint
from server.replication.outbox import Outbox
from server.replication.redis_link import Connected, Heard, LinkBroken, RedisLink

__all__ = ["RedisBus", "RedisBusOptions"]

# A replica's name in front of what it says; a number has at most 18 digits (a PostgreSQL bigint has 19).
_MAX_DIGITS: Final = 18
_FIRST_S: Final = 5.0

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

    watching_s: float = 0.25
    """A new session's rows wait no longer than this for its channel."""

    namespace: str = "freya"
    """Before every channel's name: servers that share a Redis and not a database need two."""


class RedisBus:
    """See `Bus`. `connect` makes a new client at each call (`RedisAddress.connector`)."""

    def __init__(
        self,
        connect: Callable[[], Connected],
        replica: ReplicaId,
        *,
        options: RedisBusOptions | None = None,
        rng: Random | None = None,
    ) -> None:
        self._connect = connect
        self._options = options or RedisBusOptions()
        self._rng = rng or Random()  # noqa: S311 -- it only spreads attempts
        self._names = _Names(self._options.namespace, replica)
        self._watched: set[UserId] = set()
        self._subscribed: set[UserId] = set()  # as asked of the present connection
        self._confirmed: dict[UserId, Event] = {}  # somebody waits for these
        self._watching: set[UserId] = set()  # confirmed by the present connection
        self._to_watch: dict[UserId, None] = {}  # whose subscription may have to change
        self._outbox = Outbox(self._options.most_waiting)
        self._wake_subscriber = Event()
        self._echo_ready = Event()
        self._echoed = Event()
        self._echo_number = 0
        self._linked = False
        self._told = True
        self._on_hint: Callable[[Hint], None] = _ignore
        self._on_word: Callable[[bytes], None] = _ignore
        self._on_health: Callable[[bool], None] = _ignore
        self._announced = self._received = self._dropped = self._breaks = 0

    @property
    def healthy(self) -> bool:
        return self._linked

    def announce(self, hint: Hint) -> None:
        self._announced += 1
        self._outbox.put_hint(hint)

    def tell(self, word: bytes, to: ReplicaId | None = None) -> None:
        if len(word) > MAX_WORD_BYTES:
            self._dropped += 1
        else:
            self._outbox.put_word(word, to)

    def hear(self, on_word: Callable[[bytes], None]) -> None:
        self._on_word = on_word

    def watch(self, user: UserId) -> None:
        self._watched.add(user)
        self._change(user)

    def unwatch(self, user: UserId) -> None:
        self._watched.discard(user)
        self._change(user)

    async def wait_watching(self, users: Iterable[UserId]) -> None:
        with move_on_after(self._options.watching_s):
            for user in users:
                if self._linked and user in self._watched and user not in self._watching:
                    await self._confirmed.setdefault(user, Event()).wait()

    async def run(
        self,
        on_hint: Callable[[Hint], None],
        on_health: Callable[[bool], None],
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        self._on_hint, self._on_health = on_hint, on_health
        started = _Once(task_status.started)
        backoff_s = self._options.backoff_s
        while True:
            was_linked = await self._live(started)
            self._turn(linked=False)
            started()
            backoff_s = (
                self._options.backoff_s if was_linked else min(backoff_s * 2, self._options.backoff_most_s)
            )
            await anyio.sleep(backoff_s * (0.5 + self._rng.random() / 2))

    def statistics(self) -> BusStatistics:
        return BusStatistics(
            announced=self._announced,
            received=self._received,
            dropped=self._dropped + self._outbox.dropped,
            watched=len(self._watched),
            breaks=self._breaks,
        )

    # One connection's life

    async def _live(self, started: Callable[[], None]) -> bool:
        """Connects and serves until something breaks; whether words ever got round."""
        was_linked = False
        async with RedisLink.open(self._connect) as link, create_task_group() as tasks:

            async def guard(work: Callable[[], Awaitable[None]]) -> None:
                # Whichever breaks first ends the others: they share one connection's life.
                nonlocal was_linked
                try:
                    await work()
                except (LinkBroken, TimeoutError) as problem:
                    was_linked = self._linked
                    if was_linked:
                        _log.warning("bus_broken", problem=str(problem) or "no echo came back")
                    tasks.cancel_scope.cancel()

            self._forget_link()
            await guard(lambda: self._subscribe_first(link))
            if not tasks.cancel_scope.cancel_called:
                tasks.start_soon(guard, lambda: self._read(link))
                tasks.start_soon(guard, lambda: self._subscribe(link))
                tasks.start_soon(guard, lambda: self._probe(link, started))
                tasks.start_soon(guard, lambda: self._send(link))
        return was_linked

    def _forget_link(self) -> None:
        self._subscribed.clear()
        self._watching.clear()
        self._to_watch.clear()
        self._echo_ready = Event()

    async def _subscribe_first(self, link: RedisLink) -> None:
        # The library has no limit on connecting through several names and sentinels.
        with fail_after(_FIRST_S * 2):
            await link.subscribe([self._names.everybody, self._names.own])

    async def _read(self, link: RedisLink) -> None:
        while True:
            heard = await link.listen()
            if heard is not None:
                self._take(heard)

    async def _subscribe(self, link: RedisLink) -> None:
        """Follows who is watched, in batches: everybody who is, then the echo, then the changes."""
        await self._make_subscribed(link, list(self._watched))
        # Redis takes a connection's commands in order: whoever hears the echo hears all of the above.
        await link.subscribe([self._names.echo])
        while True:
            await self._wake_subscriber.wait()
            self._wake_subscriber = Event()
            changes, self._to_watch = list(self._to_watch), {}
            await self._make_subscribed(link, changes)

    async def _make_subscribed(self, link: RedisLink, users: Sequence[UserId]) -> None:
        size = self._options.batch
        for start in range(0, len(users), size):
            batch = users[start : start + size]
            wanted = [user for user in batch if user in self._watched and user not in self._subscribed]
            unwanted = [user for user in batch if user not in self._watched and user in self._subscribed]
            # Changed before the waiting: who is watched again meanwhile counts as a new change.
            self._subscribed.update(wanted)
            self._subscribed.difference_update(unwanted)
            self._watching.difference_update(unwanted)
            await link.subscribe([self._names.of_user(user) for user in wanted])
            await link.unsubscribe([self._names.of_user(user) for user in unwanted])

    async def _send(self, link: RedisLink) -> None:
        while True:
            await self._outbox.wait()
            batch = self._outbox.take(self._options.batch)
            try:
                await link.publish([self._names.letter(each) for each in batch])
            except LinkBroken:
                # Some may have gone out: of two sendings one could arrive twice, none is no harm.
                self._dropped += len(batch)
                raise

    async def _probe(self, link: RedisLink, started: Callable[[], None]) -> None:
        """Sends itself a number now and then, and waits to hear it."""
        every_s, misses = self._options.probe_every_s, 0
        with fail_after(every_s * self._options.probe_misses):
            await self._echo_ready.wait()
        while True:
            self._echo_number += 1
            self._echoed = Event()
            with move_on_after(every_s) as patience:
                await link.publish([(self._names.echo, str(self._echo_number).encode())])
                await self._echoed.wait()
            if not patience.cancelled_caught:
                misses = 0
                self._turn(linked=True)
                started()
                await anyio.sleep(every_s)
                continue
            misses += 1
            if misses >= self._options.probe_misses:
                raise TimeoutError

    # What was heard

    def _take(self, heard: Heard) -> None:
        """Makes a hint or a word of it. Never raises: anybody may publish anything."""
        if heard.data is None:
            self._confirm(heard.channel)
        elif heard.channel == self._names.echo:
            if heard.data == str(self._echo_number).encode():
                self._echoed.set()
        elif heard.channel in self._names.for_words and heard.data.startswith(b"{"):
            self._take_word(heard.data)
        else:
            self._take_hint(heard.channel, heard.data)

    def _confirm(self, channel: bytes) -> None:
        if channel == self._names.echo:
            self._echo_ready.set()
            return
        user = self._names.user_of(channel)
        if user is not None and user in self._subscribed:
            self._watching.add(user)
            if (waited_for := self._confirmed.pop(user, None)) is not None:
                waited_for.set()

    def _take_word(self, word: bytes) -> None:
        if len(word) > MAX_WORD_BYTES:
            self._dropped += 1
        else:
            self._on_word(word)

    def _take_hint(self, channel: bytes, data: bytes) -> None:
        number, _, origin = data.partition(b" ")
        user = self._names.user_of(channel)
        makes_sense = (
            number.isdigit()
            and len(number) <= _MAX_DIGITS
            and (user is not None or channel == self._names.everybody)
        )
        if not makes_sense:
            self._dropped += 1
        elif origin != self._names.replica:
            self._received += 1
            self._on_hint(Hint(user, int(number)))

    def _change(self, user: UserId) -> None:
        self._to_watch[user] = None
        self._wake_subscriber.set()
        if user not in self._watched and (waited_for := self._confirmed.pop(user, None)) is not None:
            waited_for.set()

    def _turn(self, *, linked: bool) -> None:
        if self._linked and not linked:
            self._breaks += 1
            for waited_for in self._confirmed.values():
                waited_for.set()
            self._confirmed.clear()
        self._linked = linked
        if self._told != linked:
            self._told = linked
            self._on_health(linked)


class _Names:
    """The channels, and how what is said looks on them."""

    def __init__(self, namespace: str, replica: ReplicaId) -> None:
        self._user_prefix = f"{namespace}:user:".encode()
        self._replica_prefix = f"{namespace}:replica:".encode()
        self.everybody = f"{namespace}:everybody".encode()
        self.echo = f"{namespace}:echo:{replica}".encode()
        self.replica = replica.encode()
        self.own = self._replica_prefix + self.replica
        self.for_words = frozenset((self.everybody, self.own))

    def of_user(self, user: UserId) -> bytes:
        return self._user_prefix + user.encode()

    def user_of(self, channel: bytes) -> UserId | None:
        """The user whose channel it is, if it is one's."""
        if not channel.startswith(self._user_prefix):
            return None
        try:
            return UserId(channel[len(self._user_prefix) :].decode())
        except UnicodeDecodeError:
            return None

    def letter(self, said: Hint | tuple[bytes, ReplicaId | None]) -> tuple[bytes, bytes]:
        """Channel and content of a hint ("SEQ REPLICA") or of a word (which is JSON)."""
        if isinstance(said, Hint):
            channel = self.everybody if said.user is None else self.of_user(said.user)
            return channel, str(said.seq).encode() + b" " + self.replica
        word, to = said
        return self.everybody if to is None else self._replica_prefix + to.encode(), word


class _Once:
    """Calls a function the first time only."""

    def __init__(self, fn: Callable[[], None]) -> None:
        self._fn: Callable[[], None] | None = fn

    def __call__(self) -> None:
        fn, self._fn = self._fn, None
        if fn is not None:
            fn()


def _ignore(_: object) -> None:
    """Before anybody listens."""
