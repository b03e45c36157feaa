"""What the push side counts: plain integers on the hot path, one frozen value for whoever reports it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protocol.ids import UserId

__all__ = ["AGE_BOUNDS_S", "Counters", "Histogram", "HistogramValue", "MethodFigures", "PushStatistics"]

AGE_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

# Whose messages are counted apart, between two looks.
_MAX_TALKERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """Counts of values up to each bound (the last one: beyond all of them), and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Values sorted into fixed buckets."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...] = AGE_BOUNDS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def record(self, value: float, count: int = 1) -> None:
        """The value occurred so many times."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._total += value * count

    @property
    def value(self) -> HistogramValue:
        """What was recorded so far."""
        return HistogramValue(self._bounds, tuple(self._counts), self._total)


class MethodFigures:
    """Requests of one method: how many, how many failed with which code, how long they took."""

    __slots__ = ("errors", "seconds")

    def __init__(self) -> None:
        self.errors: dict[int, int] = {}
        self.seconds = Histogram()


class Counters:
    """Everything ever counted by one gateway. Only rises."""

    __slots__ = (
        "_talkers",
        "accepted",
        "acked_age",
        "bad_messages",
        "bytes_out",
        "closed",
        "conflated",
        "deltas",
        "http_requests",
        "limits",
        "messages_in",
        "methods",
        "push_age",
        "rate_limited",
        "refused",
        "resumes",
        "snapshots",
        "stray_responses",
        "stuck",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: dict[int, int] = {}
        self.closed: dict[int, int] = {}
        self.resumes: dict[str, int] = {}
        self.http_requests = 0
        self.limits: dict[str, int] = {}
        """How often each limit was met, by the name of its setting."""
        self.messages_in = 0
        self.bad_messages = 0
        self.stray_responses = 0
        self.rate_limited = 0
        self.deltas = 0
        self.snapshots = 0
        self.conflated = 0
        self.bytes_out = 0
        self.stuck = 0
        self.push_age = Histogram()
        """From a feed's oldest change in a frame to the writing of that frame."""
        self.acked_age = Histogram()
        """From a revision to its `feed.ack`: end to end, as far as clients say so."""
        self.methods: dict[str, MethodFigures] = {}
        self._talkers: dict[UserId, int] = {}

    def heard(self, user: UserId) -> None:
        """A message of that user came in."""
        self.messages_in += 1
        talkers = self._talkers
        if user in talkers:
            talkers[user] += 1
        elif len(talkers) < _MAX_TALKERS:
            talkers[user] = 1

    def limit(self, name: str) -> None:
        """Somebody met a limit; `name` is that of its setting."""
        self.limits[name] = self.limits.get(name, 0) + 1

    def take_talkers(self) -> Mapping[UserId, int]:
        """Messages by user since the last call; of very many users some are left out."""
        talkers, self._talkers = self._talkers, {}
        return talkers

    def method(self, name: str) -> MethodFigures:
        """The figures of a method; `name` is one of ours, never a client's text."""
        figures = self.methods.get(name)
        if figures is None:
            figures = self.methods[name] = MethodFigures()
        return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStatistics:
    """The push side at one moment."""

    connections: int
    handshakes: int
    closing: int
    users: int
    subscriptions: int
    feeds: int
    background: int
    unwritable: int
    buffered_bytes: int
    requests_running: int
    draining: bool
    accepted: int
    refused: Mapping[int, int]
    closed: Mapping[int, int]
    resumes: Mapping[str, int]
    http_requests: int
    limits: Mapping[str, int]
    messages_in: int
    bad_messages: int
    stray_responses: int
    rate_limited: int
    deltas: int
    snapshots: int
    conflated: int
    bytes_out: int
    stuck: int
    push_age: HistogramValue
    acked_age: HistogramValue
    method_seconds: Mapping[str, HistogramValue]
    method_errors: Mapping[tuple[str, int], int]
