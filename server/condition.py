"""How the server is, as its health page and its clients are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import anyio
import structlog

from server.engine.clock import Clock
from server.push.gateway import Gateway
from server.session.manager import SessionManager

__all__ = ["Condition"]

_log = structlog.get_logger(__name__)

_HEALTH_EVERY_S = 1.0


class Condition:
    """How the server is, for whoever sends clients here and for the clients' beats."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self._without: tuple[str, ...] = ()

    def started(self, gateway: Gateway) -> None:
        """From now on it is the gateway that knows."""
        self._gateway = gateway

    def not_ready(self) -> str | None:
        """Why nobody should be sent here now."""
        if self._gateway is None:
            return "starting"
        return None if self._gateway.ready else "draining"

    def degraded(self) -> Sequence[str]:
        """What is away while the server goes on without."""
        return self._without

    async def follow(self, gateway: Gateway, manager: SessionManager, clock: Clock) -> None:
        """Looks once a second, tells the gateway, and logs each change once. Runs until cancelled."""
        since: datetime | None = None
        while True:
            state = manager.statistics()
            lost = (("postgresql", state.storage_trouble), ("redis", not state.bus_healthy))
            without = tuple(name for name, away in lost if away)
            if without != self._without:
                since = clock.now() if without and since is None else since if without else None
                _log.warning("degraded", without=list(without)) if without else _log.info("well_again")
                self._without = without
                gateway.set_degraded(without, since)
            await anyio.sleep(_HEALTH_EVERY_S)
