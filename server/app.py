"""Builds the parts of a server and joins them. Nothing else is wired anywhere else.

    keys -> database -> bus (`ground`) -> sessions -> push -> listeners

Each part is a context manager that ends what it began; leaving them in reverse order is the shutdown.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from server import options
from server.cannot_start import CannotListen
from server.condition import Condition
from server.engine.clock import Clock, SystemClock
from server.enhancement.enhancer import NO_ENHANCEMENT
from server.ground import Ground, open_ground, ready_made
from server.http.access import OperatorAccess
from server.http.asyncapi import schema_files
from server.http.site import Site
from server.loop_watch import LoopWatch, settle_memory
from server.memory_watch import MemoryWatch, resident_bytes
from server.metrics import Metrics, Readings
from server.push.gateway import Gateway, GatewaySetup
from server.push.listening import Listener
from server.replication.assembly import Assembly
from server.replication.bus import Bus
from server.session.manager import SessionManager
from server.session.setup import SessionSetup
from server.settings import Settings
from server.siblings import Siblings

__all__ = ["App", "open_app"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A server that serves."""

    gateway: Gateway
    addresses: tuple[tuple[str, int], ...]
    """Where everybody comes in, as it is bound (PORT=0 has become a number)."""
    tls: ssl.SSLContext | None

    async def drain(self) -> None:
        """Sends everybody away in order; see `Gateway.drain`."""
        await self.gateway.drain()

    def reload_certificate(self, settings: Settings) -> None:
        """New connections are shown the certificate as it is on disk now. Raises CertificateUnusable;
        then they go on being shown the one before.
        """
        if self.tls is not None:
            # Tried on another context first: a half-loaded pair would lock everybody out.
            options.tls_context(settings)
            options.load_certificate(self.tls, settings)
            _log.info("certificate_reloaded")


@asynccontextmanager
async def open_app(
    settings: Settings, *, clock: Clock | None = None, siblings: Siblings | None = None
) -> AsyncGenerator[App]:
    """A whole server, listening, for as long as the block runs; one of `siblings` where several share a port.

    Raises SettingsError, StorageError and CannotStart (its kinds for keys, certificate, Redis, the
    issuer's keys and addresses), each with a text for whoever started it.
    """
    made = ready_made(settings)
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground(settings, made, clock or SystemClock()))
        sessions = ground.session_setup()
        manager = await stack.enter_async_context(SessionManager.open(sessions))
        if ground.enhancer is not None:
            ground.enhancer.bind(manager)
        condition, watch = Condition(), LoopWatch(options.loop_blocked_s(settings))
        gateway = await _open_gateway(stack, ground, sessions, manager, condition, watch, siblings)
        ground.group.start_soon(watch.run)
        ground.group.start_soon(condition.follow, gateway, manager, ground.clock)
        ground.group.start_soon(_memory_watch(settings, manager, gateway).run)
        listeners = options.listeners(settings, made.tls)
        bound = [await _listen(stack, gateway, listener) for listener in listeners]
        settle_memory()
        gateway.set_ready()
        condition.started(gateway)
        addresses = [f"{host}:{port}" for host, port in bound[0]]
        _log.info("serving", replica=ground.replica, addresses=addresses)
        yield App(gateway=gateway, addresses=bound[0], tls=made.tls)
        _log.info("stopped", replica=ground.replica)


async def _open_gateway(
    stack: AsyncExitStack,
    ground: Ground,
    sessions: SessionSetup,
    manager: SessionManager,
    condition: Condition,
    watch: LoopWatch,
    siblings: Siblings | None,
) -> Gateway:
    """The sockets, with the pages beside them and the other replicas behind them."""
    # What is asked of the gateway is asked once it is there.
    gateway: Gateway
    verifier = ground.verifier()
    readings = _readings(ground, sessions, manager, watch, lambda: gateway)
    page = Metrics(readings).render
    if siblings is not None:
        await ground.group.start(siblings.serve, page)
    site = Site(
        readiness=condition,
        access=OperatorAccess(verifier, manager.operator.revoked),
        metrics=partial(_metrics_page, page, siblings),
        schemas=schema_files(),
    )
    assembly = Assembly(
        ground.bus,
        ground.replica,
        ground.clock,
        figures=lambda: gateway.figures(),
        look_up=lambda user: gateway.inspect(user),
    )
    setup = GatewaySetup(
        manager=manager,
        verifier=verifier,
        clock=ground.clock,
        replica=ground.replica,
        http_handler=site,
        options=options.push_options(ground.settings),
        replicas=assembly,
        gauges=lambda: {"memoryBytes": resident_bytes() or 0},
        figures=lambda: {**_bus_state(ground.settings, ground.bus), "loopLagP99Ms": watch.late_ms()},
    )
    gateway = await stack.enter_async_context(Gateway.open(setup))
    stack.callback(assembly.leave)
    ground.group.start_soon(assembly.run)
    return gateway


def _readings(
    ground: Ground,
    sessions: SessionSetup,
    manager: SessionManager,
    watch: LoopWatch,
    gateway: Callable[[], Gateway],
) -> Readings:
    """Where the figures of `/metrics` are read."""
    published, enhancer = ground.published, ground.enhancer
    return Readings(
        push=lambda: gateway().statistics(),
        sessions=manager.statistics,
        engines=lambda: sessions.counts,
        bus=ground.bus.statistics,
        pool=ground.database.statistics,
        loop=watch.statistics,
        jwks_failures=lambda: 0 if published is None else published.failures,
        upstreams=ground.upstreams.statistics,
        enhancement=lambda: NO_ENHANCEMENT if enhancer is None else enhancer.statistics(),
    )


async def _metrics_page(own: Callable[[], bytes], siblings: Siblings | None) -> bytes:
    return own() if siblings is None else await siblings.whole_page(own)


async def _listen(stack: AsyncExitStack, gateway: Gateway, listener: Listener) -> tuple[tuple[str, int], ...]:
    try:
        return await stack.enter_async_context(gateway.listen(listener))
    except OSError as error:
        raise CannotListen(listener.host, listener.port, error) from error


def _bus_state(settings: Settings, bus: Bus) -> Mapping[str, object]:
    kind = "memory" if settings.storage.redis_url is None else "redis"
    return {"bus": {"kind": kind, "healthy": bus.healthy, "breaks": bus.statistics().breaks}}


def _memory_watch(settings: Settings, manager: SessionManager, gateway: Gateway) -> MemoryWatch:
    return MemoryWatch(
        settings.sessions.memory_high_mib * 1024 * 1024,
        resident=resident_bytes,
        shed=manager.shed,
        overloaded=gateway.set_overloaded,
    )
