"""What sessions and sockets stand on: keys, database, bus, the ways out of the house."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import anyio
import structlog
from anyio.abc import TaskGroup

from protocol.ids import ReplicaId
from server import options
from server.cannot_start import CannotStart
from server.engine.clock import Clock
from server.enhancement.enhancer import Enhancer
from server.keys import credential_ring, token_keys
from server.replication.bus import Bus
from server.replication.memory import MemoryBus
from server.replication.probe import open_redis_bus
from server.session.setup import SessionSetup
from server.settings import Settings, SettingsError
from server.sources.builtin import builtin_providers, environment_settings
from server.sources.registry import ProviderRegistry
from server.sources.services import Services, UserWrites
from server.sources.time_of_day import TimeOfDay
from server.stores import open_database
from server.tokens import TokenKeys, TokenVerifier
from server.tokens.jwks import PublishedKeys
from server.upstream.upstreams import Upstreams
from storage.credentials import KeyRing
from storage.database import Database
from storage.source_configs import DefaultRow

__all__ = ["Ground", "ReadyMade", "open_ground", "ready_made"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyMade:
    """What needs nothing but the settings: made first, so that mistakes are found before anything is
    started.
    """

    keys: TokenKeys
    ring: KeyRing
    tls: ssl.SSLContext | None
    registry: ProviderRegistry
    defaults: Sequence[DefaultRow]


def ready_made(settings: Settings) -> ReadyMade:
    """All of it. Raises SettingsError and CannotStart, with what is wrong and where."""
    ring = credential_ring(settings)
    if not ring.key_ids:
        _log.warning("no_credential_key", advice="set FREYA_CREDENTIAL_KEYS: credentials can't be stored")
    registry = ProviderRegistry.with_plugins(builtin_providers(options.source_options(settings)))
    try:
        defaults = registry.defaults(settings.sessions.default_sources)
    except ValueError as error:
        raise SettingsError([("FREYA_DEFAULT_SOURCES", str(error))]) from error
    return ReadyMade(
        keys=token_keys(settings),
        ring=ring,
        tls=options.tls_context(settings),
        registry=registry,
        defaults=defaults,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is there before the first session, and is left when the last one has ended."""

    settings: Settings
    ready_made: ReadyMade
    clock: Clock
    replica: ReplicaId
    group: TaskGroup
    """For what runs beside everything else; cancelled at the end."""
    database: Database
    bus: Bus
    upstreams: Upstreams
    enhancer: Enhancer | None
    published: PublishedKeys | None
    """The issuer's keys, where a JWKS is named."""

    def verifier(self) -> TokenVerifier:
        """Who may come in."""
        return TokenVerifier(
            self.ready_made.keys,
            options.token_options(self.settings),
            self.clock.now,
            published=self.published,
        )

    def session_setup(self) -> SessionSetup:
        """What sessions are made with."""
        knobs = options.source_options(self.settings)

        def services(writes: UserWrites) -> Services:
            return Services(clock=self.clock, writes=writes, options=knobs, upstreams=self.upstreams)

        return SessionSetup(
            database=self.database,
            bus=self.bus,
            clock=self.clock,
            registry=self.ready_made.registry,
            keys=self.ready_made.ring,
            services=services,
            defaults=self.ready_made.defaults,
            environment=environment_settings(knobs),
            options=options.session_options(self.settings),
            limits=options.feed_limits(self.settings),
            processors=(TimeOfDay(),),
            overlay=None if self.enhancer is None else self.enhancer.overlay,
        )


@asynccontextmanager
async def open_ground(settings: Settings, made: ReadyMade, clock: Clock) -> AsyncGenerator[Ground]:
    """All of it, for as long as the block runs. Raises StorageError and CannotStart."""
    replica = ReplicaId(f"r{secrets.token_hex(4)}")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_traces(settings, replica))
        group = await stack.enter_async_context(_background())
        published = await _published_keys(settings, group)
        database = await stack.enter_async_context(open_database(settings, beside=group))
        bus = await _bus(settings, replica)
        enhancer = await _enhancer(stack, settings, database, clock, group, replica)
        stack.push_async_callback(made.registry.aclose)
        upstreams = await stack.enter_async_context(Upstreams.open(clock, options.upstream_options(settings)))
        yield Ground(
            settings=settings,
            ready_made=made,
            clock=clock,
            replica=replica,
            group=group,
            database=database,
            bus=bus,
            upstreams=upstreams,
            enhancer=enhancer,
            published=published,
        )


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
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    clock: Clock,
    group: TaskGroup,
    replica: ReplicaId,
) -> Enhancer | None:
    of = settings.enhancement
    if of.llm_api_key is None:
        return None
    from server.enhancement.model import ChatModel  # with all that it loads: not for who has no endpoint

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
