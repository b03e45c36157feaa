"""Every setting: from the environment, typed, with its default. Nobody else reads the environment.

`Settings.load()` reads them all and raises one `SettingsError` that lists every mistake. The settings
come in groups, one for each thing an operator thinks about; `server.options` hands them to the rooms as
their options. `docs/configuration.md` is generated from this module (`server.settings_docs`).
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.log import LogFormat, LogLevel

__all__ = [
    "Connections",
    "Enhancement",
    "Feeds",
    "Group",
    "Keys",
    "Listening",
    "Observing",
    "Sessions",
    "Settings",
    "SettingsError",
    "Sources",
    "Storage",
    "variable",
]


def _words(value: object) -> object:
    """A comma-separated text as a list of its words."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _one_of(*prefixes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(prefixes):
            raise ValueError(f"must begin with {' or '.join(prefixes)}")
        return value

    return AfterValidator(check)


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        ipaddress.ip_network(network)
    return value


def _host_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT")
    return value


_REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "redis+sentinel://", "redis+cluster://")
_Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
_Address = Annotated[str, Field(pattern=r"^https?://\S+$")]
_Nothing: tuple[str, ...] = ()


def _setting(
    default: object, description: str, *, env: str | None = None, unit: str = "", **bounds: Any
) -> Any:
    """A field as pydantic wants it: what it is for, in which unit, within which bounds."""
    return Field(
        default, description=description, validation_alias=env, json_schema_extra={"unit": unit}, **bounds
    )


class Group(BaseSettings):
    """Settings that belong together."""

    model_config = SettingsConfigDict(
        env_prefix="FREYA_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )
    title: ClassVar[str]


class Listening(Group):
    """Where the server listens, and whom it believes."""

    title = "Listening"
    host: str = _setting(
        "127.0.0.1", "Address to bind. Anything but a loopback address is reachable by others"
    )
    port: int = _setting(8080, "Port to bind; 0 takes a free one", env="PORT", ge=0, le=65535)
    workers: int = _setting(
        1, "Processes on the one port, each a replica; more than 1 needs REDIS_URL", ge=1, le=256
    )
    ops_listen: Annotated[str, AfterValidator(_host_port)] | None = _setting(
        None, "HOST:PORT of its own for operators: metrics and dashboard without a token"
    )
    origins: _Words = _setting(
        _Nothing, "Origins of web pages that may connect, beside the server's own; `*` allows any"
    )
    tls_cert: Path | None = _setting(
        None, "Certificate chain (PEM). With FREYA_TLS_KEY: wss; SIGHUP reads both anew"
    )
    tls_key: Path | None = _setting(None, "Private key (PEM) of FREYA_TLS_CERT")
    proxy_protocol: bool = _setting(False, "Expect PROXY protocol v1 or v2 from FREYA_PROXY_NETWORKS")
    proxy_networks: Annotated[_Words, AfterValidator(_networks)] = _setting(
        ("127.0.0.0/8", "::1/128"), "Networks of the balancers whose PROXY header is believed"
    )
    direct_clients: bool = _setting(
        False, "Clients connect to the port itself, without a balancer: their addresses are their own"
    )
    accept_per_s: float = _setting(
        0.0, "Upgrades accepted; past it 503 with Retry-After. 0: no limit", unit="1/s", ge=0
    )
    drain_delay_s: float | None = _setting(
        None,
        "After SIGTERM upgrades are still served for this long: 5, or 0 on a loopback bind",
        unit="s",
        ge=0,
        le=300,
    )
    drain_s: float = _setting(
        20.0, "After SIGTERM the last connection is closed by then", unit="s", ge=0, le=3600
    )
    native_fanout: Path | None = _setting(
        None, "A fan-out loop in C, built by `make native` for this Python. Empty: pure Python"
    )


class Storage(Group):
    """What outlives the process."""

    title = "Storage and replicas"
    database_url: Annotated[SecretStr, _one_of("postgres://", "postgresql://")] | None = _setting(
        None, "PostgreSQL. Without it the server starts one of its own in FREYA_DATA_DIR", env="DATABASE_URL"
    )
    data_dir: Path = _setting(Path(".freya"), "Keys, and the embedded PostgreSQL")
    migrate: bool = _setting(
        True, "Bring the database to this release's schema at start; 0: only `python -m server migrate` does"
    )
    db_pool: int = _setting(10, "Connections to PostgreSQL, for each process", ge=2, le=200)
    db_timeout_s: float = _setting(5.0, "No request waits longer for PostgreSQL", unit="s", ge=0.1, le=60)
    redis_url: Annotated[SecretStr, _one_of(*_REDIS_SCHEMES)] | None = _setting(
        None,
        "Redis, which carries hints between replicas. Without it there is this one replica",
        env="REDIS_URL",
    )
    redis_required: bool = _setting(True, "Refuse to start while Redis can't be reached")


class Keys(Group):
    """Who may come in, and what credentials are encrypted with."""

    title = "Keys and tokens"
    jwt_keys: SecretStr | None = _setting(
        None,
        "`KID:ALG:KEY,...`, what tokens are checked with; see Keys and tokens in operations.md",
    )
    jwks: str | None = _setting(None, "An issuer's published keys: a path or an address")
    jwks_refresh_s: float = _setting(300.0, "How often they are read anew", unit="s", ge=1, le=86_400)
    jwks_max_age_s: float = _setting(86_400.0, "How long they hold while the issuer is away", unit="s", ge=60)
    jwt_audience: str | None = _setting(None, "`aud` that a token must name")
    jwt_issuer: str | None = _setting(None, "`iss` that a token must have")
    jwt_leeway_s: float = _setting(30.0, "Forgiven difference between clocks", unit="s", ge=0, le=600)
    credential_keys: SecretStr | None = _setting(
        None, "`ID:BASE64,...` of 32 bytes each: the first encrypts, all decrypt (`keygen` makes one)"
    )


class Sessions(Group):
    """How long and how many users' living states are kept."""

    title = "Sessions"
    default_sources: _Words = _setting(
        ("freya.user", "freya.location", "freya.inbox", "freya.reminders", "freya.clock"),
        "Sources that a new user is given, once",
    )
    session_idle_ttl_s: float = _setting(
        1800.0, "Without any connection a session ends after this", unit="s", ge=1
    )
    max_sessions: int = _setting(20_000, "Past this the longest idle session ends", ge=1)
    sources_per_user: int = _setting(
        64, "Sources that one user may have, of those there are; the defaults come in any case", ge=1
    )
    memory_high_mib: int = _setting(
        0, "Past this resident size idle sessions end, then new connections get 503. 0: off", unit="MiB", ge=0
    )
    resume_wait_s: float = _setting(
        1.0, "A resuming client of a cold session waits this long for its sources", unit="s", ge=0, le=10
    )


class Connections(Group):
    """What one connection, one user and one process may do."""

    title = "Connections and their limits"
    connections_per_user: int = _setting(32, "Open connections of one user on this process", ge=1)
    max_connections: int = _setting(50_000, "Open connections of this process", ge=1)
    connections_per_address: int = _setting(
        0,
        "Open connections of one address. Counts what a PROXY header names, and with FREYA_DIRECT_CLIENTS"
        " every peer. 0: off",
        ge=0,
    )
    handshake_s: float = _setting(10.0, "From TCP connect to a finished handshake", unit="s", ge=0.5, le=120)
    first_byte_s: float = _setting(5.0, "From TCP connect to the first byte", unit="s", ge=0.5, le=120)
    heartbeat_ms: int = _setting(
        25_000, "Heartbeat of clients that name none", unit="ms", ge=5_000, le=300_000
    )
    stall_s: float = _setting(
        900.0, "A socket whose peer takes no byte for this long is dropped", unit="s", ge=5
    )
    connection_max_age_s: float = _setting(
        0.0, "Older connections are asked to reconnect. 0: off", unit="s", ge=0
    )
    requests_per_s: float = _setting(20.0, "Requests of one connection, in the long run", unit="1/s", gt=0)
    request_burst: int = _setting(100, "Requests of one connection at once", ge=1)
    max_message_bytes: int = _setting(
        65_536, "Size of one message of a client, inflated", unit="bytes", ge=16_384, le=65_536
    )
    frames_per_s: float = _setting(
        500.0, "Frames of one connection of any kind, in the long run", unit="1/s", gt=0
    )
    frame_burst: int = _setting(2_000, "Frames of one connection at once", ge=100)
    publishes_per_s: float = _setting(
        200.0, "Feeds that one publisher writes to, over all its connections", unit="1/s", gt=0
    )
    publish_burst: int = _setting(2_000, "Feeds that one publisher writes to at once", ge=1)
    concurrent_requests: int = _setting(
        16, "Requests of one connection in flight; past it reading pauses", ge=1, le=1024
    )
    subscriptions: int = _setting(64, "Feeds that one connection may follow", ge=1, le=10_000)


class Feeds(Group):
    """How big a feed may grow."""

    title = "Feeds"
    max_items: int = _setting(2_000, "Items of one feed; the lowest-ranked are left out", ge=1, le=2_000)
    max_feed_bytes: int = _setting(700 * 1024, "Size of one feed", unit="bytes", ge=32 * 1024, le=700 * 1024)
    max_item_bytes: int = _setting(32 * 1024, "Size of one item", unit="bytes", ge=1024, le=32 * 1024)


class Sources(Group):
    """The built-in sources and what they fetch from."""

    title = "Sources"
    synthetic: bool = _setting(False, "Offer `freya.synthetic`, which makes items for load tests")
    allow_private_upstreams: bool = _setting(
        False, "Let users' calendar and news addresses lead into private networks"
    )
    open_meteo_url: _Address = _setting("https://api.open-meteo.com", "Open-Meteo, or a mirror of it")
    weatherkit_url: _Address = _setting("https://weatherkit.apple.com", "Apple WeatherKit")
    weatherkit_private_key: SecretStr | None = _setting(
        None, "WeatherKit's ES256 key (PEM); with the next three set, it is used"
    )
    weatherkit_key_id: str | None = _setting(None, "WeatherKit's key id")
    weatherkit_team_id: str | None = _setting(None, "WeatherKit's team id")
    weatherkit_service_id: str | None = _setting(None, "WeatherKit's service id")
    tfl_url: _Address = _setting("https://api.tfl.gov.uk", "Transport for London")
    tfl_api_key: SecretStr | None = _setting(None, "Raises Transport for London's rate limit")
    listenbrainz_url: _Address = _setting("https://api.listenbrainz.org", "ListenBrainz")


class Enhancement(Group):
    """The language model that fills slots. Off without a key."""

    title = "Enhancement"
    llm_api_key: SecretStr | None = _setting(None, "Key of the endpoint")
    llm_base_url: _Address = _setting("https://openrouter.ai/api/v1", "Any OpenAI-compatible endpoint")
    llm_model: str = _setting("openai/gpt-4.1-mini", "Model to ask")
    llm_concurrency: int = _setting(8, "Calls in flight in this process", ge=1, le=256)
    llm_timeout_s: float = _setting(30.0, "One call", unit="s", ge=1, le=300)
    llm_min_interval_s: float = _setting(30.0, "Between two calls for one user", unit="s", ge=0)
    llm_max_per_hour: int = _setting(20, "Calls for one user in an hour", ge=0)


class Observing(Group):
    """What can be seen from outside."""

    title = "Log, watchdog and traces"
    log_level: LogLevel = _setting("info", "What is worth a line")
    log_format: LogFormat = _setting("auto", "auto: pretty on a terminal, JSON elsewhere")
    log_salt: SecretStr = _setting(
        SecretStr(""), "Mixed into the hashes that stand for users; the same on all replicas"
    )
    loop_blocked_ms: int = _setting(
        250,
        "Where the event loop stands still for longer, the log says where, with its stack. 0: off; less than "
        "20 counts as 20, since looking costs, too",
        unit="ms",
        ge=0,
        le=60_000,
    )
    otlp_url: _Address | None = _setting(
        None, "Collector of traces (OTLP over HTTP): `http://HOST:4318/v1/traces`. Needs the extra `otel`"
    )
    trace_ratio: float = _setting(1.0, "Share of the requests that are traced", ge=0, le=1)


class SettingsError(Exception):
    """Settings that can't be used. `problems` are (variable, sentence); the text is for the person who
    set them.
    """

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(f"{name}: {sentence}" for name, sentence in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    listening: Listening
    storage: Storage
    keys: Keys
    sessions: Sessions
    connections: Connections
    feeds: Feeds
    sources: Sources
    enhancement: Enhancement
    observing: Observing

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """The settings of this process's environment; `overrides` (by field name) win. Raises
        SettingsError.
        """
        problems: list[tuple[str, str]] = []
        made: dict[str, Group] = {}
        for name, group in cls.groups().items():
            mine = {
                key: value
                for key, value in overrides.items()
                if key in group.model_fields and value is not None
            }
            try:
                made[name] = group(**cast("dict[str, Any]", mine))
            except ValidationError as error:
                problems += _problems(group, error)
        if not problems:
            settings = cls(**cast("dict[str, Any]", made))
            problems = list(_contradictions(settings))
            if not problems:
                return settings
        raise SettingsError(problems)

    @classmethod
    def groups(cls) -> Mapping[str, type[Group]]:
        """The groups, in the order of the documentation."""
        hints = get_type_hints(cls)
        return {field.name: cast("type[Group]", hints[field.name]) for field in fields(cls)}

    @classmethod
    def variables(cls) -> Mapping[str, FieldInfo]:
        """Every variable with what is known about it."""
        return {
            variable(name, info): info
            for group in cls.groups().values()
            for name, info in group.model_fields.items()
        }

    @classmethod
    def unknown(cls, environ: Mapping[str, str] = os.environ) -> list[str]:
        """A sentence for each FREYA_ variable that is no setting: most often a misspelt one."""
        known = list(cls.variables())
        return [
            f"{name} is not a setting"
            + "".join(f"; {near} is" for near in difflib.get_close_matches(name, known, n=1, cutoff=0.8))
            for name in sorted(environ)
            if name.startswith("FREYA_") and name not in known
        ]


def variable(name: str, info: FieldInfo) -> str:
    """The environment variable of a field."""
    return info.validation_alias if isinstance(info.validation_alias, str) else f"FREYA_{name.upper()}"


def _problems(group: type[Group], error: ValidationError) -> Iterable[tuple[str, str]]:
    # The value itself stays out of the message: it may be a password with a typing mistake in it.
    for issue in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(issue["loc"][0])
        info = group.model_fields.get(name)
        sentence = issue["msg"].removeprefix("Value error, ")
        for ours in ("Input should ", "String should "):
            sentence = sentence.replace(ours, "must ")
        yield (name if info is None else variable(name, info), sentence)


def _contradictions(settings: Settings) -> Iterable[tuple[str, str]]:
    listening, storage = settings.listening, settings.storage
    if (listening.tls_cert is None) != (listening.tls_key is None):
        yield ("FREYA_TLS_CERT", "and FREYA_TLS_KEY belong together: set both or none")
    if listening.workers > 1 and storage.redis_url is None:
        yield ("FREYA_WORKERS", "more than one process needs REDIS_URL: it carries the changes between them")
    apple = settings.sources
    parts = (
        apple.weatherkit_private_key,
        apple.weatherkit_key_id,
        apple.weatherkit_team_id,
        apple.weatherkit_service_id,
    )
    if any(part is None for part in parts) and any(part is not None for part in parts):
        yield (
            "FREYA_WEATHERKIT_PRIVATE_KEY",
            "and _KEY_ID, _TEAM_ID and _SERVICE_ID belong together: set all or none",
        )
