"""Sources that ask the outside world: in an engine, over the real upstream room, against loopback servers.

`town` runs on the virtual clock. `real_town` runs in real time, from a date that never changes on: for what
worker processes take part in, since the time they take is theirs. The tests of a module share a loop, so that
the processes need not start anew for each; a module that uses it names no virtual clock.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from time import monotonic
from typing import Any

import orjson
import pytest
from anyio import Event, create_task_group, fail_after

from protocol.feed import FeedItem, SourceError
from protocol.frozen import JsonObject, JsonValue
from protocol.ids import SourceId, UserId
from protocol.times import to_wire
from server.engine.clock import Clock, SystemClock
from server.engine.engine import FeedEngine
from server.engine.source import FeedSource
from server.engine.status import SourceState
from server.engine.tasks import TaskScope
from server.sources.builtin import builtin_providers
from server.sources.location import LOCATION_ID, LocationSource
from server.sources.provider import AnyProvider
from server.sources.services import Services, SourceOptions
from server.sources.user import UserConfig, UserSource
from server.upstream.client import ClientLimits
from server.upstream.upstreams import UpstreamOptions, Upstreams
from storage.loading import UserRows
from storage.source_state import StateRow
from tests.sources.conftest import ALICE, NoWrites
from tests.support.clock import START, TestClock
from tests.support.radicale import Radicale
from tests.support.reaper import Reaper

__all__ = ["BERLIN", "LONDON", "QUIET_S", "DatedClock", "Street", "Town", "open_town"]

LONDON = (51.5072, -0.1276)
BERLIN = (52.52, 13.405)

# Upstreams answer from loopback in real time: so long nothing may arrive before the clock moves on.
QUIET_S = 0.02


class DatedClock(SystemClock):
    """Real time that began at a certain date."""

    def __init__(self, start: datetime = START) -> None:
        super().__init__()
        self._start = start
        self._hurried_s = 0.0
        self._zero_s = self.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic() - self._zero_s)

    def monotonic(self) -> float:
        return monotonic() + self._hurried_s

    def hurry(self, seconds: float) -> None:
        """Lets so much time have passed; timers that are set already do not notice."""
        self._hurried_s += seconds


class Changes:
    """Tells whoever waits that a feed has changed."""

    def __init__(self) -> None:
        self._event = Event()

    def note(self, *_: object) -> None:
        self._event.set()
        self._event = Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with fail_after(60):
            while not condition():
                await self._event.wait()


@dataclass
class Street:
    """One user's engine."""

    clock: Clock
    changes: Changes
    engine: FeedEngine
    services: Services
    providers: Mapping[str, AnyProvider]
    location: LocationSource
    user: UserId = ALICE

    # What is seen

    @property
    def items(self) -> tuple[FeedItem, ...]:
        return self.engine.state.items

    def of_type(self, kind: str) -> list[FeedItem]:
        return [item for item in self.items if item.type == kind]

    def data(self, kind: str) -> list[Mapping[str, JsonValue]]:
        return [item.data for item in self.of_type(kind)]

    def json(self, kind: str) -> Any:
        """The data of the only item of a kind, as a client reads it."""
        return orjson.loads(self.item(kind).encoded)["data"]

    def item(self, kind: str) -> FeedItem:
        (only,) = self.of_type(kind)
        return only

    def context(self, *key: str) -> JsonValue:
        return self.engine.context.get(key)

    def status(self, source: str) -> SourceState:
        return self.engine.status(SourceId(source)).status

    def error(self, source: str) -> SourceError | None:
        return self.engine.status(SourceId(source)).error

    # What happens

    def at(self, lat: float, lng: float) -> None:
        """A new fix, as it comes from the store."""
        fix = {"lat": lat, "lng": lng, "accuracy": 10, "timestamp": to_wire(self.clock.now())}
        self.location.restore(
            UserRows(self.user, states={LOCATION_ID: StateRow(LOCATION_ID, fix, None, None)})
        )

    async def build(
        self, source_id: str, config: JsonObject, credentials: JsonObject | None = None
    ) -> FeedSource:
        provider = self.providers[source_id]
        secret = None
        if credentials is not None:
            assert provider.credentials_schema is not None
            secret = provider.credentials_schema.model_validate(credentials)
        return await provider.source_for_user(
            self.user, provider.config_schema.model_validate(config), secret, self.services
        )

    async def add(
        self, source_id: str, config: JsonObject | None = None, credentials: JsonObject | None = None
    ) -> FeedSource:
        """A source, when it has answered or failed."""
        source = await self.build(source_id, config or {}, credentials)
        self.engine.add(source)
        if isinstance(self.clock, TestClock):
            await self.settle()
        else:
            await self.changes.until(lambda: self.status(source_id) is not SourceState.STARTING)
        return source

    async def settle(self) -> None:
        """Until what follows has followed; a call is made at most ten times a second."""
        await self._virtual.advance(0.2, quiet_s=QUIET_S)

    async def refresh(self) -> None:
        """Every source has answered that was asked."""
        if not isinstance(self.clock, TestClock):
            await self.engine.refresh()
            return
        async with create_task_group() as group:
            group.start_soon(self.engine.refresh)
            await self.settle()

    async def to(self, moment: datetime) -> None:
        await self._virtual.advance((moment - self.clock.now()).total_seconds(), quiet_s=0.002)

    async def pass_time(self, seconds: float, *, quiet_s: float = QUIET_S) -> None:
        await self._virtual.advance(seconds, quiet_s=quiet_s)

    @property
    def _virtual(self) -> TestClock:
        assert isinstance(self.clock, TestClock), "time is moved in a `town`, not in a `real_town`"
        return self.clock


@dataclass
class Town:
    """A process: one upstream room, one set of providers, many users."""

    clock: Clock
    tasks: TaskScope
    upstreams: Upstreams
    options: SourceOptions = field(default_factory=SourceOptions)
    providers: Mapping[str, AnyProvider] = field(default_factory=dict[str, AnyProvider])
    engines: list[FeedEngine] = field(default_factory=list[FeedEngine])

    async def aclose(self) -> None:
        for engine in self.engines:
            await engine.aclose()
        await self.tasks.aclose()

    def with_options(self, **urls: object) -> Town:
        """The same town with other services; its providers are new."""
        options = replace(self.options, **urls)
        providers = {provider.source_id: provider for provider in builtin_providers(options)}
        return replace(self, options=options, providers=providers)

    @property
    def worker_runs(self) -> int:
        return self.upstreams.statistics().workers.runs

    def from_day(self, noon: datetime) -> Town:
        """The same town at another time; what has a clock of its own keeps it."""
        return replace(self, clock=DatedClock(noon)).with_options()

    def street(self, user: str = ALICE, *, settings: UserConfig | None = None, rng: int = 1) -> Street:
        """A user who listens, with their settings, and no place yet."""
        services = Services(self.clock, NoWrites(), self.options, self.upstreams)
        changes = Changes()
        engine = FeedEngine(
            clock=self.clock,
            tasks=self.tasks,
            on_change=changes.note,
            on_status=changes.note,
            order=[SourceId(name) for name in self.providers],
            rng=Random(rng),
        )
        location = LocationSource(UserId(user), services)
        self.engines.append(engine)
        engine.set_listening(True)
        engine.add(UserSource(settings or UserConfig()))
        engine.add(location)
        return Street(self.clock, changes, engine, services, self.providers, location, UserId(user))


@asynccontextmanager
async def open_town(clock: Clock, *, allow_private: bool = True) -> AsyncGenerator[Town]:
    options = UpstreamOptions(allow_private=allow_private, client=ClientLimits(wait_s=0.0))
    async with create_task_group() as group, Upstreams.open(clock, options) as upstreams:
        town = Town(clock, TaskScope(group), upstreams).with_options()
        yield town
        await town.aclose()


@pytest.fixture(scope="session")
def radicale_process(reaper: Reaper) -> Iterator[Radicale]:
    server = Radicale(reaper)
    yield server
    server.close()


@pytest.fixture
def radicale(radicale_process: Radicale) -> Radicale:
    """A CalDAV server without any calendar."""
    radicale_process.clear()
    return radicale_process


@pytest.fixture
async def town(clock: TestClock) -> AsyncGenerator[Town]:
    async with open_town(clock) as town:
        yield town


@pytest.fixture(scope="module")
async def one_loop() -> AsyncGenerator[None]:
    """Keeps the loop of a module's tests, and with it the worker processes that wait there."""
    yield  # noqa: PT022 -- a fixture that returned would not hold the loop


@pytest.fixture
async def real_town(one_loop: None) -> AsyncGenerator[Town]:
    async with open_town(DatedClock()) as town:
        yield town
