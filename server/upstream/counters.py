"""What is counted of requests that leave the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HostCounters", "HostStatistics"]


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """Counts since the start, of one host or a group of them."""

    calls: int
    """Requests sent."""
    hits: int
    """Answered by the HTTP cache without a request."""
    revalidated: int
    """Requests answered with 304: what the cache held still holds."""
    retries: int
    """Requests that were a second or later try."""
    failures: Mapping[str, int]
    """Requests in vain, by the code of their SourceFailure."""
    seconds: float
    """What the requests took, summed."""
    under_way: int


class HostCounters:
    """The same, while it is being counted. Plain numbers, for one event loop."""

    __slots__ = ("_failures", "calls", "hits", "retries", "revalidated", "seconds", "under_way")

    def __init__(self) -> None:
        self.calls = self.hits = self.revalidated = self.retries = self.under_way = 0
        self.seconds = 0.0
        self._failures = Counter[str]()

    def failed(self, code: str) -> None:
        """One more request in vain."""
        self._failures[code] += 1

    def statistics(self) -> HostStatistics:
        """As it is now."""
        return HostStatistics(
            calls=self.calls,
            hits=self.hits,
            revalidated=self.revalidated,
            retries=self.retries,
            failures=dict(self._failures),
            seconds=self.seconds,
            under_way=self.under_way,
        )
