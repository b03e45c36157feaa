"""The end of a manager, when nobody asked it nicely; and what is left of a session."""

from __future__ import annotations

import gc

import anyio

from server.engine.engine import FeedEngine
from server.engine.runner import SourceRunner
from server.replication import MemoryBus
from server.session.manager import SessionManager
from server.session.setup import SessionSetup
from server.session.user_session import UserSession
from server.sources.registry import ProviderRegistry
from server.sources.services import Services
from server.sources.user import UserProvider
from storage.database import Database
from tests.session.conftest import ALICE, RING, Listener, World, texts
from tests.session.providers import STAGE, Stage
from tests.support.clock import TestClock


async def test_sessions_end_in_order_also_when_everything_around_them_is_cancelled(
    clock: TestClock, database_url: str
) -> None:
    registry = ProviderRegistry([UserProvider()])
    listener = Listener()
    async with Database.open(database_url, pool_size=2) as database:
        setup = SessionSetup(
            database=database,
            bus=MemoryBus(),
            clock=clock,
            registry=registry,
            keys=RING,
            services=lambda writes: Services(clock=clock, writes=writes),
            defaults=registry.defaults(["freya.user"]),
        )
        with anyio.CancelScope() as around:
            async with SessionManager.open(setup) as manager:
                session = await manager.get_or_create(ALICE)
                await session.answered(5.0)
                session.attach(listener)
                around.cancel()
                await anyio.sleep_forever()
    assert listener.closed == ["shutdown"]


def _alive(*kinds: type[object]) -> int:
    return sum(type(each) in kinds for each in gc.get_objects())


async def test_an_ended_session_and_a_swapped_source_are_freed_without_the_collector(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    gc.collect()
    gc.disable()
    try:
        before = _alive(UserSession, FeedEngine, SourceRunner)
        await replica.sources.put(ALICE, STAGE, enabled=True, config={"text": "0"})
        session = await replica.session()
        held = _alive(UserSession, FeedEngine, SourceRunner)
        for number in range(1, 4):
            await replica.sources.patch(ALICE, STAGE, config={"text": str(number)})
            await world.eventually(lambda number=number: len(stage.closed) == number)
        assert texts(session) == ["3"]
        # The stage remembers its sources, which have their runners as handles.
        stage.made.clear()
        stage.closed.clear()
        assert _alive(UserSession, FeedEngine, SourceRunner) == held
        del session
        stage.made.clear()
        await replica.manager.remove(ALICE)
        await world.quiet()
        stage.closed.clear()
        assert _alive(UserSession, FeedEngine, SourceRunner) == before
    finally:
        gc.enable()
