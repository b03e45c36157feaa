"""What a user's session costs: to make it from its rows, to let an update through, to keep it.

    python -m tests.bench.bench_session [update] [create] [memory]

One process, no socket and no database: the built-in providers with the rows that every new user has, and
`freya.synthetic` with 8 items. An update and a session stand beside what the bare loop of `bare.py` does for
one update (make the item, compare by identity, encode, frame), measured in turns; read the ratios.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from asyncio import Transport
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from statistics import median
from time import process_time
from typing import Final, TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from protocol.delta import diff
from protocol.encoding import delta_message
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.clock import SystemClock
from server.engine.tasks import TaskScope
from server.loop_watch import settle_memory
from server.push.frames import Message
from server.session.builds import SourceBuilder
from server.session.listeners import CloseReason
from server.session.parts import SessionParts
from server.session.user_session import UserSession
from server.sources.builtin import builtin_providers
from server.sources.registry import ProviderRegistry
from server.sources.services import Services, SourceOptions
from server.sources.synthetic import SYNTHETIC_ID, SyntheticSource, due_at, tick_at
from server.sources.time_of_day import TimeOfDay
from storage.credentials import KeyRing, generate_key
from storage.database import WriteTx
from storage.loading import UserRows
from storage.source_configs import SourceConfigRow
from tests.bench.bare import Socket, update

__all__: list[str] = []

T = TypeVar("T")
USERS: Final = int(__import__("os").environ.get("USERS", "1000"))
ROUNDS: Final = 20
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
# So slow that nothing ticks by itself.
SYNTHETIC: Final = {"items": 8, "bytes": 60, "ratePerS": 1e-6}


class NoWrites:
    """Nobody writes here."""

    async def write(self, user: UserId, fn: Callable[[WriteTx], Awaitable[T]]) -> T:
        raise AssertionError("this benchmark has no database")


class Follower:
    """What the push side does for one socket, short of writing."""

    def __init__(self, session: UserSession) -> None:
        self.before = session.history.current
        self.frames = 0
        session.attach(self)
        session.listen()

    def on_revision(self, session: UserSession) -> None:
        now, was = session.history.current, self.before
        delta = diff(was.state, now.state)
        message = delta_message(
            session.user, was.cursor, now.cursor, now.at, delta, context=False, cause=None
        )
        self.frames += len(Message(message).frame(deflate=False)) > 0
        self.before = now

    def on_source_changed(self, session: UserSession, source_state: dict[str, JsonValue]) -> None:
        """Not measured."""

    def on_closed(self, session: UserSession, reason: CloseReason) -> None:
        """Not measured."""


class NoTransport:
    """Stands where the bare loop has its socket."""

    def write(self, data: bytes) -> None:
        """Nothing is sent."""


class Bench:
    """The parts that all sessions share, and the rows that every user has."""

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.bare = Bare()
        clock, options = SystemClock(), SourceOptions(synthetic=True)
        registry = ProviderRegistry(builtin_providers(options))
        services = Services(clock=clock, writes=NoWrites(), options=options)
        self.configs = {row.source_id: dict(row.config) for row in registry.defaults()}
        self.configs[SYNTHETIC_ID] = {**SYNTHETIC}
        self.parts = SessionParts(
            clock=clock,
            providers=registry,
            builder=SourceBuilder(keys=KeyRing.parse(generate_key("bench")), services=services),
            reread=lambda _: None,
            idle=lambda _: None,
            processors=(TimeOfDay(),),
        )

    def rows(self, number: int) -> UserRows:
        """As the database would give them: every user's own objects."""
        user = UserId(f"user-{number}")
        configs = {
            SourceId(str(name)): SourceConfigRow(name, True, dict(config), None, 1, NOW)
            for name, config in self.configs.items()
        }
        return UserRows(user, seq=1, exists=True, defaults_given=True, configs=configs)

    async def session(self, rows: UserRows) -> UserSession:
        """One that has answered."""
        session = UserSession(rows.user, self.parts, TaskScope(self.group))
        session.apply_rows(rows)
        await session.built(1.0)
        await session.answered(1.0)
        return session


class Bare:
    """As many feeds of the bare loop, so that their memory is as cold as ours."""

    def __init__(self) -> None:
        self._sockets = [Socket([]) for _ in range(USERS)]
        for socket in self._sockets:
            socket.transport = cast("Transport", NoTransport())
            update(socket)

    def us(self) -> float:
        """The CPU of one update of each."""
        began = process_time()
        for socket in self._sockets:
            update(socket)
        return (process_time() - began) / USERS * 1e6


def tell(name: str, found: Sequence[tuple[float, float]]) -> None:
    """A figure, and its ratio to the bare loop in the same turn."""
    us = min(us for us, _ in found)
    bare = min(bare for _, bare in found)
    ratio = median(us / bare for us, bare in found)
    sys.stdout.write(f"{name:<52} {us:>9.1f} us   bare {bare:5.1f} us   ratio {ratio:6.2f}\n")
    sys.stdout.flush()


async def measure_updates(bench: Bench) -> None:
    """A source reports one changed item of eight."""
    sessions = [await bench.session(bench.rows(number)) for number in range(USERS)]
    followers = [Follower(session) for session in sessions]
    sources = [session.source(SyntheticSource) for session in sessions]
    gc.collect()
    found: list[tuple[float, float]] = []
    config, first = sources[0].config, tick_at(sources[0].config, datetime.now(UTC).timestamp())
    for number in range(1, ROUNDS + 1):
        moment = due_at(config, first + number) + 1.0
        began = process_time()
        for source in sources:
            source.tick(moment)
        found.append(((process_time() - began) / USERS * 1e6, bench.bare.us()))
        assert all(follower.frames == number for follower in followers)
    tell("an update: item, engine, revision, delta, frame", found)
    for session in sessions:
        await session.aclose()


async def measure_creation(bench: Bench) -> None:
    """From rows to a session whose sources have answered, a hundred at a time, as in a storm."""
    numbers = count()
    found: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        rows = [bench.rows(next(numbers)) for _ in range(100)]
        made: list[UserSession] = []

        async def make(one: UserRows, made: list[UserSession] = made) -> None:
            made.append(await bench.session(one))

        gc.collect()
        began = process_time()
        async with anyio.create_task_group() as group:
            for one in rows:
                group.start_soon(make, one)
        found.append(((process_time() - began) / len(rows) * 1e6, bench.bare.us()))
        for session in made:
            assert not session.history.current.state.pending
            await session.aclose()
    tell("a session: rows, sources, first answers", found)


async def measure_memory(bench: Bench) -> None:
    """What a user's session keeps, in Python objects."""
    kept = [await bench.session(bench.rows(number)) for number in range(10)]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept += [await bench.session(bench.rows(number)) for number in range(10, 510)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = (after - before) / 500 / 1024
    sys.stdout.write(f"an idle session of {len(bench.configs)} sources and 8 items: {size:.1f} KiB\n")
    for session in kept:
        await session.aclose()


async def measure(names: Sequence[str]) -> None:
    """Those that are named, or all."""
    async with anyio.create_task_group() as group:
        bench = Bench(group)
        settle_memory()
        for name, one in BENCHMARKS.items():
            if not names or name in names:
                await one(bench)


BENCHMARKS: Final = {
    "update": measure_updates,
    "create": measure_creation,
    "memory": measure_memory,
}

if __name__ == "__main__":
    anyio.run(measure, sys.argv[1:], backend_options={"use_uvloop": True})
