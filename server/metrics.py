"""Every metric, declared once: its name, kind, meaning, and how it is read from a room's `statistics()`.

The rooms count in plain integers and know nothing of this. Nothing here runs but when somebody asks for
the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Never, TypeAlias, TypeVar

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from protocol.ids import SourceId
from server.engine.status import EngineCounts
from server.enhancement.enhancer import EnhancerStatistics
from server.loop_watch import LoopStatistics
from server.push.counters import HistogramValue, PushStatistics
from server.replication.bus import BusStatistics
from server.session.manager import ManagerStatistics
from server.upstream.counters import HostStatistics
from server.upstream.upstreams import UpstreamStatistics
from storage.database import PoolStatistics

__all__ = ["CATALOGUE", "Figure", "Kind", "Metrics", "Readings"]

S = TypeVar("S", contravariant=True)

Kind: TypeAlias = Literal["gauge", "counter", "histogram"]
_Value: TypeAlias = "float | HistogramValue"
_Values: TypeAlias = "_Value | Mapping[tuple[str, ...], float] | Mapping[tuple[str, ...], HistogramValue]"


@dataclass(frozen=True, slots=True)
class Figure(Generic[S]):
    """One metric. `read` takes it from the statistics: a number, or numbers by the values of `labels`."""

    name: str
    kind: Kind
    help: str
    read: Callable[[S], _Values]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Where the figures come from: each room's `statistics`, called when the page is asked for."""

    push: Callable[[], PushStatistics]
    sessions: Callable[[], ManagerStatistics]
    engines: Callable[[], EngineCounts]
    bus: Callable[[], BusStatistics]
    pool: Callable[[], PoolStatistics]
    loop: Callable[[], LoopStatistics]
    jwks_failures: Callable[[], int]
    upstreams: Callable[[], UpstreamStatistics]
    enhancement: Callable[[], EnhancerStatistics]


def _keyed(
    values: Mapping[int, int] | Mapping[str, int] | Mapping[SourceId, int],
) -> Mapping[tuple[str, ...], float]:
    return {(str(key),): float(count) for key, count in values.items()}


_PUSH: tuple[Figure[PushStatistics], ...] = (
    Figure("freya_connections", "gauge", "Open connections.", lambda s: s.connections),
    Figure("freya_connections_background", "gauge", "Of them in the background.", lambda s: s.background),
    Figure(
        "freya_connections_unwritable", "gauge", "Of them with a full socket: slow.", lambda s: s.unwritable
    ),
    Figure("freya_connection_users", "gauge", "Users with a connection.", lambda s: s.users),
    Figure("freya_handshakes", "gauge", "Sockets that are not connections yet.", lambda s: s.handshakes),
    Figure(
        "freya_subscriptions", "gauge", "Feeds followed, summed over connections.", lambda s: s.subscriptions
    ),
    Figure("freya_feeds_followed", "gauge", "Feeds that somebody here follows.", lambda s: s.feeds),
    Figure("freya_buffered_bytes", "gauge", "Waiting in full sockets.", lambda s: s.buffered_bytes),
    Figure("freya_requests_running", "gauge", "Requests under way.", lambda s: s.requests_running),
    Figure("freya_draining", "gauge", "1 while the server drains.", lambda s: float(s.draining)),
    Figure("freya_accepted", "counter", "Connections accepted.", lambda s: s.accepted),
    Figure("freya_refused", "counter", "Upgrades refused.", lambda s: _keyed(s.refused), ("status",)),
    Figure("freya_closed", "counter", "Connections ended.", lambda s: _keyed(s.closed), ("code",)),
    Figure(
        "freya_resumes",
        "counter",
        "Connections begun, by what they got.",
        lambda s: _keyed(s.resumes),
        ("outcome",),
    ),
    Figure("freya_http_requests", "counter", "Plain HTTP requests.", lambda s: s.http_requests),
    Figure("freya_messages_in", "counter", "Messages received.", lambda s: s.messages_in),
    Figure("freya_bad_messages", "counter", "Messages that were none.", lambda s: s.bad_messages),
    Figure("freya_stray_responses", "counter", "Responses sent to us, dropped.", lambda s: s.stray_responses),
    Figure("freya_rate_limited", "counter", "Requests refused as too many.", lambda s: s.rate_limited),
    Figure(
        "freya_limits_reached",
        "counter",
        "Limits of connections that somebody met, by the setting's name.",
        lambda s: _keyed(s.limits),
        ("limit",),
    ),
    Figure("freya_deltas", "counter", "Deltas pushed.", lambda s: s.deltas),
    Figure("freya_snapshots", "counter", "Snapshots pushed.", lambda s: s.snapshots),
    Figure(
        "freya_conflated", "counter", "Revisions that went out inside a later one.", lambda s: s.conflated
    ),
    Figure("freya_bytes_out", "counter", "Bytes written to sockets.", lambda s: s.bytes_out),
    Figure("freya_stuck", "counter", "Sockets dropped because nobody read.", lambda s: s.stuck),
    Figure(
        "freya_push_age_seconds",
        "histogram",
        "From a feed's change to the writing of its frame; of a conflated delta, the oldest change.",
        lambda s: s.push_age,
    ),
    Figure(
        "freya_acked_age_seconds",
        "histogram",
        "From a revision to its feed.ack: end to end, where clients say so.",
        lambda s: s.acked_age,
    ),
    Figure(
        "freya_request_seconds",
        "histogram",
        "Requests by method.",
        lambda s: {(method,): value for method, value in s.method_seconds.items()},
        ("method",),
    ),
    Figure(
        "freya_request_errors",
        "counter",
        "Error replies by method and code.",
        lambda s: {(method, str(code)): float(count) for (method, code), count in s.method_errors.items()},
        ("method", "code"),
    ),
)

_SESSIONS: tuple[Figure[ManagerStatistics], ...] = (
    Figure("freya_sessions", "gauge", "Live sessions.", lambda s: s.directory.sessions),
    Figure("freya_sessions_idle", "gauge", "Of them without any connection.", lambda s: s.directory.idle),
    Figure("freya_sessions_creating", "gauge", "Sessions in the making.", lambda s: s.directory.creating),
    Figure("freya_sessions_created", "counter", "Sessions made.", lambda s: s.directory.created),
    Figure(
        "freya_sessions_failed", "counter", "Sessions that could not be made.", lambda s: s.directory.failed
    ),
    Figure(
        "freya_sessions_evicted", "counter", "Sessions ended for being idle.", lambda s: s.directory.evicted
    ),
    Figure(
        "freya_session_limits_reached",
        "counter",
        "Sessions that ended early or were refused for want of room, by the setting's name.",
        lambda s: _keyed(s.directory.limits),
        ("limit",),
    ),
    Figure("freya_session_reads", "counter", "Times a session's rows were read again.", lambda s: s.reads),
    Figure("freya_looks", "counter", "Comparisons of all sessions with the store.", lambda s: s.looks),
    Figure(
        "freya_looks_differing",
        "counter",
        "Sessions that a look found to differ.",
        lambda s: s.looks_differing,
    ),
    Figure(
        "freya_storage_trouble",
        "gauge",
        "1 while the store does not answer, or has no room for writes.",
        lambda s: float(s.storage_trouble),
    ),
    Figure("freya_bus_healthy", "gauge", "1 while hints get through.", lambda s: float(s.bus_healthy)),
)

_ENGINES: tuple[Figure[EngineCounts], ...] = (
    Figure("freya_source_runs", "counter", "Calls of sources.", lambda s: _keyed(s.runs), ("source",)),
    Figure(
        "freya_source_failures",
        "counter",
        "Calls of sources without an answer.",
        lambda s: {(source, code): float(count) for (source, code), count in s.failures.items()},
        ("source", "code"),
    ),
    Figure("freya_source_pushes", "counter", "Reports that sources made by themselves.", lambda s: s.pushes),
    Figure(
        "freya_feed_limits_reached",
        "counter",
        "Feeds and reports from which something was left out, by the setting's name.",
        lambda s: _keyed(s.limits),
        ("limit",),
    ),
    Figure("freya_compilations", "counter", "Feeds put together anew.", lambda s: s.compilations),
    Figure("freya_emissions", "counter", "Of them with a change.", lambda s: s.emissions),
    Figure("freya_compile_seconds", "counter", "Time spent on them.", lambda s: s.compute_s),
)

_BUS: tuple[Figure[BusStatistics], ...] = (
    Figure("freya_bus_announced", "counter", "Hints announced.", lambda s: s.announced),
    Figure("freya_bus_received", "counter", "Hints received.", lambda s: s.received),
    Figure(
        "freya_bus_dropped", "counter", "Hints dropped, and messages that were none.", lambda s: s.dropped
    ),
    Figure("freya_bus_watched", "gauge", "Users watched.", lambda s: s.watched),
    Figure("freya_bus_breaks", "counter", "Breaks of the bus.", lambda s: s.breaks),
)

_POOL: tuple[Figure[PoolStatistics], ...] = (
    Figure("freya_db_connections", "gauge", "Connections to PostgreSQL.", lambda s: s.size),
    Figure("freya_db_connections_idle", "gauge", "Of them idle.", lambda s: s.idle),
    Figure("freya_db_connections_max", "gauge", "As many as there may be.", lambda s: s.maximum),
    Figure("freya_db_waiting", "gauge", "Operations that wait for a connection.", lambda s: s.waiting),
    Figure("freya_db_connections_lost", "counter", "Connections that failed.", lambda s: s.lost),
    Figure(
        "freya_db_commits_unknown",
        "counter",
        "Commits whose fate could not be learnt.",
        lambda s: s.commits_unknown,
    ),
)

_LOOP: tuple[Figure[LoopStatistics], ...] = (
    Figure("freya_loop_lag_seconds", "histogram", "How late the event loop was.", lambda s: s.lag),
    Figure(
        "freya_gc_pause_seconds", "histogram", "Pauses for the collection of garbage.", lambda s: s.gc_pause
    ),
    Figure("freya_tasks", "gauge", "Tasks of the event loop.", lambda s: s.tasks),
    Figure(
        "freya_loop_blocked",
        "counter",
        "Times the loop stood still past FREYA_LOOP_BLOCKED_MS; the log says where.",
        lambda s: s.blocks.count,
    ),
    Figure(
        "freya_loop_blocked_seconds",
        "counter",
        "How long it stood still then, summed.",
        lambda s: s.blocks.seconds,
    ),
)

_KEYS: tuple[Figure[int], ...] = (
    Figure("freya_jwks_failures", "counter", "Readings of the issuer's keys that failed.", lambda s: s),
)

_GUARDED = "user-named"
"""What users name is counted together: their hosts are nobody else's business, and without number."""


def _by_host(
    statistics: UpstreamStatistics, read: Callable[[HostStatistics], float]
) -> Mapping[tuple[str, ...], float]:
    hosts = {**statistics.hosts, _GUARDED: statistics.guarded}
    return {(host,): float(read(one)) for host, one in hosts.items()}


def _failures_by_host(statistics: UpstreamStatistics) -> Mapping[tuple[str, ...], float]:
    hosts = {**statistics.hosts, _GUARDED: statistics.guarded}
    return {(host, code): float(count) for host, one in hosts.items() for code, count in one.failures.items()}


_UPSTREAMS: tuple[Figure[UpstreamStatistics], ...] = (
    Figure(
        "freya_upstream_calls",
        "counter",
        "Requests sent, by host; what users name is counted together.",
        lambda s: _by_host(s, lambda one: one.calls),
        ("host",),
    ),
    Figure(
        "freya_upstream_hits",
        "counter",
        "Answered by the HTTP cache without a request.",
        lambda s: _by_host(s, lambda one: one.hits),
        ("host",),
    ),
    Figure(
        "freya_upstream_retries",
        "counter",
        "Requests that were a second or later try.",
        lambda s: _by_host(s, lambda one: one.retries),
        ("host",),
    ),
    Figure(
        "freya_upstream_seconds",
        "counter",
        "What the requests took, summed.",
        lambda s: _by_host(s, lambda one: one.seconds),
        ("host",),
    ),
    Figure(
        "freya_upstream_under_way",
        "gauge",
        "Requests that wait for their answer.",
        lambda s: _by_host(s, lambda one: one.under_way),
        ("host",),
    ),
    Figure(
        "freya_upstream_failures",
        "counter",
        "Requests in vain, by the code of the error that users see.",
        _failures_by_host,
        ("host", "code"),
    ),
    Figure("freya_upstream_joined", "counter", "Calls answered by another's request.", lambda s: s.joined),
    Figure(
        "freya_documents_held_bytes",
        "gauge",
        "Fetched documents in memory.",
        lambda s: s.documents.held_bytes,
    ),
    Figure("freya_workers_runs", "counter", "Documents read in a process beside.", lambda s: s.workers.runs),
    Figure(
        "freya_workers_failures",
        "counter",
        "Of them given up: too long, too much.",
        lambda s: s.workers.failures,
    ),
)

_ENHANCEMENT: tuple[Figure[EnhancerStatistics], ...] = (
    Figure("freya_llm_passes", "counter", "Passes that asked the model.", lambda s: s.passes),
    Figure("freya_llm_passes_running", "gauge", "Passes under way.", lambda s: s.running),
    Figure("freya_llm_calls", "counter", "Calls that the endpoint answered.", lambda s: s.model.calls),
    Figure(
        "freya_llm_tokens_in", "counter", "Tokens sent, as the endpoint counts.", lambda s: s.model.tokens_in
    ),
    Figure("freya_llm_tokens_out", "counter", "Tokens received.", lambda s: s.model.tokens_out),
    Figure(
        "freya_llm_latency_seconds",
        "histogram",
        "From the turn to ask to the answer or failure.",
        lambda s: HistogramValue(s.latency.bounds, s.latency.counts, s.latency.total),
    ),
    Figure(
        "freya_llm_skips",
        "counter",
        "Passes that a gate held back, by reason.",
        lambda s: {(reason,): float(count) for reason, count in s.skips.items()},
        ("reason",),
    ),
    Figure(
        "freya_llm_failures",
        "counter",
        "Passes that failed, by kind.",
        lambda s: {(kind,): float(count) for kind, count in s.failures.items()},
        ("kind",),
    ),
    Figure("freya_llm_breaker_open", "gauge", "1 while nobody asks.", lambda s: float(s.breaker_open)),
)

CATALOGUE: tuple[tuple[str, Sequence[Figure[Never]]], ...] = (
    ("Connections and pushing", _PUSH),
    ("Sessions", _SESSIONS),
    ("Sources and engines", _ENGINES),
    ("Bus", _BUS),
    ("Database", _POOL),
    ("Process", _LOOP),
    ("Keys", _KEYS),
    ("Upstreams", _UPSTREAMS),
    ("Enhancement", _ENHANCEMENT),
)
"""All figures under the headings of their rooms. Each is read with its own room's statistics."""


class Metrics(Collector):
    """The page of one process."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self._registry)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing to check in advance: the registry is ours alone."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every figure, as of now."""
        readings = self._readings
        yield from _families(_PUSH, readings.push())
        yield from _families(_SESSIONS, readings.sessions())
        yield from _families(_ENGINES, readings.engines())
        yield from _families(_BUS, readings.bus())
        yield from _families(_POOL, readings.pool())
        yield from _families(_LOOP, readings.loop())
        yield from _families(_KEYS, readings.jwks_failures())
        yield from _families(_UPSTREAMS, readings.upstreams())
        yield from _families(_ENHANCEMENT, readings.enhancement())


def _families(figures: Sequence[Figure[S]], statistics: S) -> Iterator[Metric]:
    for figure in figures:
        values = figure.read(statistics)
        by_label = values if isinstance(values, Mapping) else {(): values}
        yield _family(figure, by_label)


def _family(figure: Figure[S], values: Mapping[tuple[str, ...], _Value]) -> Metric:
    match figure.kind:
        case "gauge":
            family = GaugeMetricFamily(figure.name, figure.help, labels=figure.labels)
        case "counter":
            family = CounterMetricFamily(figure.name, figure.help, labels=figure.labels)
        case "histogram":
            family = HistogramMetricFamily(figure.name, figure.help, labels=figure.labels)
    for labels, value in values.items():
        if isinstance(value, HistogramValue):
            assert isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, list(_buckets(value)), value.total)
        else:
            assert not isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, value)
    return family


def _buckets(value: HistogramValue) -> Iterator[tuple[str, float]]:
    """Prometheus counts up to each bound, the ones before included."""
    so_far = 0
    for bound, count in zip((*map(str, value.bounds), "+Inf"), value.counts, strict=True):
        so_far += count
        yield bound, so_far
