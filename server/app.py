"""Builds the parts of a server and joins them. Nothing else is wired anywhere else.

    keys -> database -> bus -> sessions -> push -> listeners

Each part is a context manager that ends what it began; leaving them in reverse order is the shutdown.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic

import anyio
import structlog
from anyio.abc import TaskGroup

from protocol.ids import ReplicaId
from server import options
from server.cannot_start import CannotListen, CannotStart
from server.engine.clock import Clock, SystemClock
from server.enhancement.enhancer import NO_ENHANCEMENT, Enhancer
from server.enhancement.model import ChatModel
from server.http.access import OperatorAccess
from server.http.asyncapi import schema_files
from server.http.site import Site
from server.keys import credential_ring, token_keys
from server.loop_watch import LoopWatch, settle_memory
from server.memory_watch import MemoryWatch, resident_bytes
from server.metrics import Metrics, Readings
from server.push.gateway import Gateway, GatewaySetup
from server.push.listening import Listener
from server.replication.assembly import Assembly
from server.replication.bus import Bus
from server.replication.memory import MemoryBus
from server.replication.probe import open_redis_bus
from server.session.manager import SessionManager
from server.session.setup import SessionSetup
from server.settings import Settings, SettingsError
from server.siblings import Siblings
from server.sources.builtin import builtin_providers, environment_settings
from server.sources.registry import ProviderRegistry
from server.sources.services import Services, UserWrites
from server.sources.time_of_day import TimeOfDay
from server.tokens import TokenKeys, TokenVerifier
from server.tokens.jwks import PublishedKeys
from server.upstream.upstreams import Upstreams
from storage.credentials import KeyRing
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate
from storage.restarts import Incident
from storage.source_configs import DefaultRow

__all__ = ["App", "database_address", "open_app", "open_database"]

_log = structlog.get_logger(__name__)

_HEALTH_EVERY_S = 1.0


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
    clock = clock or SystemClock()
    replica, ready_made = ReplicaId(f"r{secrets.token_hex(4)}"), _ready_made(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_traces(settings, replica))
        group = await stack.enter_async_context(_background())
        published = await _published_keys(settings, group)
        database = await stack.enter_async_context(open_database(settings, beside=group))
        bus = await _bus(settings, replica)
        enhancer = await _enhancer(settings, stack, database, clock, group, replica)
        stack.push_async_callback(ready_made.registry.aclose)
        upstreams = await stack.enter_async_context(Upstreams.open(clock, options.upstream_options(settings)))
        sessions = _session_setup(settings, ready_made, clock, database, bus, enhancer, upstreams)
        manager = await stack.enter_async_context(SessionManager.open(sessions))
        if enhancer is not None:
            enhancer.bind(manager)
        verifier = TokenVerifier(
            ready_made.keys, options.token_options(settings), clock.now, published=published
        )
        condition, watch = _Condition(), LoopWatch(settings.observing.loop_blocked_ms / 1000)
        readings = Readings(
            push=lambda: gateway.statistics(),
            sessions=manager.statistics,
            engines=lambda: sessions.counts,
            bus=bus.statistics,
            pool=database.statistics,
            loop=watch.statistics,
            jwks_failures=lambda: 0 if published is None else published.failures,
            upstreams=upstreams.statistics,
            enhancement=lambda: NO_ENHANCEMENT if enhancer is None else enhancer.statistics(),
        )
        page = Metrics(readings).render
        if siblings is not None:
            await group.start(siblings.serve, page)
        site = Site(
            readiness=condition,
            access=OperatorAccess(verifier, manager.operator.revoked),
            metrics=partial(_metrics_page, page, siblings),
            schemas=schema_files(),
        )
        assembly = Assembly(
            bus,
            replica,
            clock,
            figures=lambda: gateway.figures(),
            look_up=lambda user: gateway.inspect(user),
        )
        pushing = GatewaySetup(
            manager=manager,
            verifier=verifier,
            clock=clock,
            replica=replica,
            http_handler=site,
            options=options.push_options(settings),
            replicas=assembly,
            gauges=lambda: {"memoryBytes": resident_bytes() or 0},
            figures=lambda: {**_bus_state(settings, bus), "loopLagP99Ms": watch.late_ms()},
        )
        gateway = await stack.enter_async_context(Gateway.open(pushing))
        stack.callback(assembly.leave)
        group.start_soon(watch.run)
        group.start_soon(assembly.run)
        group.start_soon(condition.follow, gateway, manager, clock)
        group.start_soon(_memory_watch(settings, manager, gateway).run)
        tls = ready_made.tls
        bound = [await _listen(stack, gateway, listener) for listener in options.listeners(settings, tls)]
        settle_memory()
        gateway.set_ready()
        condition.started(gateway)
        _log.info("serving", replica=replica, addresses=[f"{host}:{port}" for host, port in bound[0]])
        yield App(gateway=gateway, addresses=bound[0], tls=tls)
        _log.info("stopped", replica=replica)


async def _metrics_page(own: Callable[[], bytes], siblings: Siblings | None) -> bytes:
    return own() if siblings is None else await siblings.whole_page(own)


@asynccontextmanager
async def database_address(settings: Settings, beside: TaskGroup | None = None) -> AsyncGenerator[str]:
    """DATABASE_URL, or the address of the embedded PostgreSQL, which runs as long as the block (and as
    long as any other process uses it); with a group `beside`, it is started again where it dies meanwhile.
    Raises EmbeddedPostgresFailed.
    """
    if settings.storage.database_url is not None:
        yield settings.storage.database_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(settings.storage.data_dir)
    async with embedded as address:
        for notice in embedded.notices:
            _log.info("embedded_postgres", notice=notice)
        with _kept_running(embedded, beside):
            yield address


@contextmanager
def _kept_running(embedded: EmbeddedPostgres, beside: TaskGroup | None) -> Generator[None]:
    scope = anyio.CancelScope()

    async def keep() -> None:
        with scope:
            await embedded.keep_running(_tell_of_postgres)

    if beside is not None:
        beside.start_soon(keep, name="embedded postgres")
    try:
        yield
    finally:
        # Before it is stopped: else that would be mended.
        scope.cancel()


def _tell_of_postgres(incident: Incident) -> None:
    level = logging.INFO if incident.what == "back" else logging.ERROR
    _log.log(level, f"embedded_postgres_{incident.what}", attempt=incident.attempt, reason=incident.reason)


@asynccontextmanager
async def open_database(
    settings: Settings, *, may_migrate: bool = True, beside: TaskGroup | None = None
) -> AsyncGenerator[Database]:
    """The database, with this code's schema; `beside` as for `database_address`. Raises StorageError with
    what to do.
    """
    storage = settings.storage
    async with database_address(settings, beside) as address:
        if may_migrate and storage.migrate:
            applied = await migrate(address)
            if applied:
                _log.info("migrated", applied=list(applied))
        async with Database.open(
            address, pool_size=storage.db_pool, timeout_s=storage.db_timeout_s
        ) as database:
            yield database


@asynccontextmanager
async def _background() -> AsyncGenerator[TaskGroup]:
    """What runs beside everything else, and ends with it."""
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


@asynccontextmanager
async def _traces(settings: Settings, replica: ReplicaId) -> AsyncGenerator[None]:
    """Where a collector is named, requests are traced for as long as the block runs. Raises CannotStart."""
    of = settings.observing
    if of.otlp_url is None:
        yield
        return
    try:
        from server.otel import sending_spans
    except ImportError as missing:
        raise CannotStart(
            f"FREYA_OTLP_URL is set, but {missing.name} is not installed: pip install 'freya-push[otel]'"
        ) from missing
    ratio, service = of.trace_ratio, options.release()
    async with sending_spans(of.otlp_url, service=service, replica=replica, ratio=ratio):
        yield


async def _published_keys(settings: Settings, group: TaskGroup) -> PublishedKeys | None:
    where = options.jwks_options(settings)
    if where is None:
        return None
    published = PublishedKeys(where, monotonic)
    await group.start(published.run)
    return published


async def _bus(settings: Settings, replica: ReplicaId) -> Bus:
    storage = settings.storage
    if storage.redis_url is None:
        return MemoryBus(replica=replica)
    return await open_redis_bus(
        storage.redis_url.get_secret_value(),
        replica,
        timeout_s=storage.db_timeout_s,
        required=storage.redis_required,
    )


async def _enhancer(
    settings: Settings,
    stack: AsyncExitStack,
    database: Database,
    clock: Clock,
    group: TaskGroup,
    replica: ReplicaId,
) -> Enhancer | None:
    of = settings.enhancement
    if of.llm_api_key is None:
        return None
    model = await stack.enter_async_context(
        ChatModel(
            base_url=of.llm_base_url,
            api_key=of.llm_api_key.get_secret_value(),
            model=of.llm_model,
            clock=clock,
            timeout_s=of.llm_timeout_s,
        )
    )
    knobs = options.enhancement_options(settings)
    return Enhancer(model, database=database, clock=clock, group=group, replica=replica, options=knobs)


async def _listen(stack: AsyncExitStack, gateway: Gateway, listener: Listener) -> tuple[tuple[str, int], ...]:
    try:
        return await stack.enter_async_context(gateway.listen(listener))
    except OSError as error:
        raise CannotListen(listener.host, listener.port, error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadyMade:
    """What needs nothing but the settings: made first, so that mistakes are found before anything is
    started.
    """

    keys: TokenKeys
    ring: KeyRing
    tls: ssl.SSLContext | None
    registry: ProviderRegistry
    defaults: Sequence[DefaultRow]


def _ready_made(settings: Settings) -> _ReadyMade:
    ring = credential_ring(settings)
    if not ring.key_ids:
        _log.warning("no_credential_key", advice="set FREYA_CREDENTIAL_KEYS: credentials can't be stored")
    registry = ProviderRegistry.with_plugins(builtin_providers(options.source_options(settings)))
    try:
        defaults = registry.defaults(settings.sessions.default_sources)
    except ValueError as error:
        raise SettingsError([("FREYA_DEFAULT_SOURCES", str(error))]) from error
    return _ReadyMade(
        keys=token_keys(settings),
        ring=ring,
        tls=options.tls_context(settings),
        registry=registry,
        defaults=defaults,
    )


def _session_setup(
    settings: Settings,
    ready_made: _ReadyMade,
    clock: Clock,
    database: Database,
    bus: Bus,
    enhancer: Enhancer | None,
    upstreams: Upstreams,
) -> SessionSetup:
    knobs = options.source_options(settings)

    def services(writes: UserWrites) -> Services:
        return Services(clock=clock, writes=writes, options=knobs, upstreams=upstreams)

    return SessionSetup(
        database=database,
        bus=bus,
        clock=clock,
        registry=ready_made.registry,
        keys=ready_made.ring,
        services=services,
        defaults=ready_made.defaults,
        environment=environment_settings(knobs),
        options=options.session_options(settings),
        limits=options.feed_limits(settings),
        processors=(TimeOfDay(),),
        overlay=None if enhancer is None else enhancer.overlay,
    )


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


class _Condition:
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
