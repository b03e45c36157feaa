"""The end of a manager, when nobody asked it nicely."""

from __future__ import annotations

import anyio

from server.replication import MemoryBus
from server.session.manager import SessionManager
from server.session.setup import SessionSetup
from server.sources.registry import ProviderRegistry
from server.sources.services import Services
from server.sources.user import UserProvider
from storage.database import Database
from tests.session.conftest import ALICE, RING, Listener
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
