"""The settings, as the options of each room. What the environment is called is known only in
`server.settings`.
"""

from __future__ import annotations

import ipaddress
import ssl
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from server.cannot_start import CannotStart
from server.engine.limits import FeedLimits
from server.enhancement.options import EnhancementOptions
from server.http.types import ListenerKind
from server.push import native
from server.push.listening import Listener
from server.push.native import SendAll
from server.push.options import PushOptions
from server.session.options import SessionOptions
from server.settings import Settings, SettingsError
from server.sources.services import SourceOptions, WeatherKitKey
from server.sources.weather.weatherkit import check_private_key
from server.tokens import TokenOptions
from server.tokens.jwks import JwksOptions
from server.upstream.upstreams import UpstreamOptions

__all__ = [
    "CertificateUnusable",
    "enhancement_options",
    "feed_limits",
    "is_loopback",
    "jwks_options",
    "listeners",
    "load_certificate",
    "loop_blocked_s",
    "push_options",
    "release",
    "session_options",
    "source_options",
    "tls_context",
    "token_options",
    "upstream_options",
]

_DRAIN_DELAY_S = 5.0
# Looking more often than that would cost more than what it finds.
_LEAST_BLOCKED_MS = 20


class CertificateUnusable(CannotStart):
    """The certificate or its key can't be used. The text names the files."""


def release() -> str:
    """The name and version of what runs here."""
    try:
        return f"freya-push/{version('freya-push')}"
    except PackageNotFoundError:
        return "freya-push"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach what is bound there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_options(settings: Settings) -> TokenOptions:
    """What a token must say."""
    keys = settings.keys
    return TokenOptions(audience=keys.jwt_audience, issuer=keys.jwt_issuer, leeway_s=keys.jwt_leeway_s)


def jwks_options(settings: Settings) -> JwksOptions | None:
    """Where the issuer's keys are, if it publishes any."""
    keys = settings.keys
    if keys.jwks is None:
        return None
    return JwksOptions(location=keys.jwks, refresh_s=keys.jwks_refresh_s, max_age_s=keys.jwks_max_age_s)


def session_options(settings: Settings) -> SessionOptions:
    """How long and how many sessions live."""
    sessions = settings.sessions
    return SessionOptions(
        idle_ttl_s=sessions.session_idle_ttl_s,
        max_sessions=sessions.max_sessions,
        max_sources=sessions.sources_per_user,
    )


def enhancement_options(settings: Settings) -> EnhancementOptions:
    """For the LLM pass."""
    of = settings.enhancement
    return EnhancementOptions(
        concurrency=of.llm_concurrency,
        min_interval_s=of.llm_min_interval_s,
        calls_per_hour=of.llm_max_per_hour,
        timeout_s=of.llm_timeout_s,
        # A turn outlives the call it was taken for.
        lease_s=of.llm_timeout_s + 15.0,
    )


def feed_limits(settings: Settings) -> FeedLimits:
    """How big a feed may grow."""
    feeds = settings.feeds
    return FeedLimits(items=feeds.max_items, bytes=feeds.max_feed_bytes, item_bytes=feeds.max_item_bytes)


def source_options(settings: Settings) -> SourceOptions:
    """What the built-in sources are told. Raises SettingsError for a key that can't sign."""
    of = settings.sources
    return SourceOptions(
        synthetic=of.synthetic,
        open_meteo_url=of.open_meteo_url,
        weatherkit_url=of.weatherkit_url,
        weatherkit_key=_weatherkit_key(settings),
        tfl_url=of.tfl_url,
        tfl_api_key=None if of.tfl_api_key is None else of.tfl_api_key.get_secret_value(),
        listenbrainz_url=of.listenbrainz_url,
    )


def _weatherkit_key(settings: Settings) -> WeatherKitKey | None:
    """Apple's key, if there is one: its four parts are set together or not at all."""
    of = settings.sources
    if (
        of.weatherkit_private_key is None
        or of.weatherkit_key_id is None
        or of.weatherkit_team_id is None
        or of.weatherkit_service_id is None
    ):
        return None
    # A variable of the environment often holds a file's lines with their ends written out.
    pem = of.weatherkit_private_key.get_secret_value().replace("\\n", "\n")
    try:
        check_private_key(pem)
    except ValueError as wrong:
        raise SettingsError([("FREYA_WEATHERKIT_PRIVATE_KEY", f"is {wrong}")]) from None
    return WeatherKitKey(pem, of.weatherkit_key_id, of.weatherkit_team_id, of.weatherkit_service_id)


def upstream_options(settings: Settings) -> UpstreamOptions:
    """How far sources may reach."""
    return UpstreamOptions(allow_private=settings.sources.allow_private_upstreams, user_agent=release())


def push_options(settings: Settings) -> PushOptions:
    """What connections may do."""
    listening, limits = settings.listening, settings.connections
    delay_s = listening.drain_delay_s
    if delay_s is None:
        delay_s = 0.0 if is_loopback(listening.host) else _DRAIN_DELAY_S
    networks = listening.proxy_networks if listening.proxy_protocol else ()
    return PushOptions(
        server=release(),
        origins=frozenset(origin.lower() for origin in listening.origins),
        first_byte_timeout_s=limits.first_byte_s,
        handshake_timeout_s=limits.handshake_s,
        accepts_per_s=listening.accept_per_s,
        proxy_networks=tuple(ipaddress.ip_network(network) for network in networks),
        max_connections=limits.max_connections,
        max_connections_per_user=limits.connections_per_user,
        max_connections_per_address=limits.connections_per_address,
        max_message_bytes=limits.max_message_bytes,
        max_subscriptions=limits.subscriptions,
        max_concurrent_requests=limits.concurrent_requests,
        requests_per_s=limits.requests_per_s,
        request_burst=limits.request_burst,
        frames_per_s=limits.frames_per_s,
        frame_burst=limits.frame_burst,
        publishes_per_s=limits.publishes_per_s,
        publish_burst=limits.publish_burst,
        max_item_count=settings.feeds.max_items,
        heartbeat_s=limits.heartbeat_ms / 1000,
        stall_s=limits.stall_s,
        resume_wait_s=settings.sessions.resume_wait_s,
        max_age_s=limits.connection_max_age_s,
        drain_delay_s=delay_s,
        drain_s=listening.drain_s,
        send_all=None if listening.native_fanout is None else _native(listening.native_fanout),
    )


def _native(library: Path) -> SendAll:
    try:
        return native.load(library)
    except ImportError as error:
        raise CannotStart(f"FREYA_NATIVE_FANOUT: {library} can't be used: {error}") from error


def listeners(settings: Settings, tls: ssl.SSLContext | None) -> tuple[Listener, ...]:
    """Where to listen: the port of everybody, and the operators' own where there is one."""
    listening = settings.listening
    kind = ListenerKind.LOOPBACK if is_loopback(listening.host) else ListenerKind.PUBLIC
    everybody = Listener(
        host=listening.host,
        port=listening.port,
        kind=kind,
        counts_addresses=listening.direct_clients,
        reuse_port=listening.workers > 1,
        tls=tls,
    )
    if listening.ops_listen is None:
        return (everybody,)
    host, _, port = listening.ops_listen.rpartition(":")
    ops = Listener(
        host=host.strip("[]"), port=int(port), kind=ListenerKind.OPS, reuse_port=listening.workers > 1
    )
    return (everybody, ops)


def loop_blocked_s(settings: Settings) -> float:
    """For how long the event loop may stand still unnoticed; 0: for ever."""
    blocked_ms = settings.observing.loop_blocked_ms
    return max(_LEAST_BLOCKED_MS, blocked_ms) / 1000 if blocked_ms else 0.0


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The certificate to show, if there is one. Raises CertificateUnusable."""
    cert, key = settings.listening.tls_cert, settings.listening.tls_key
    if cert is None or key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, settings)
    return context


def load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Has the context show the certificate as it is on disk now. Raises CertificateUnusable."""
    cert, key = settings.listening.tls_cert, settings.listening.tls_key
    assert cert is not None
    assert key is not None
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one too
        raise CertificateUnusable(f"FREYA_TLS_CERT={cert} with FREYA_TLS_KEY={key}: {error}") from error
