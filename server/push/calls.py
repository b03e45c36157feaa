"""The requests of one connection that have not been answered: it exists only while there are some, or while
the count of recent ones matters."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from anyio import CancelScope

from protocol.jsonrpc import RequestId
from server.push.limits import TokenBucket

if TYPE_CHECKING:
    from server.push.dispatch import Work
    from server.push.options import PushOptions

__all__ = ["Calls"]


class Calls:
    """What runs and what waits, the ids in flight, and how much of its allowance the client has used."""

    __slots__ = ("_bucket", "_ids", "_reads", "_run", "_waiting", "_writes", "count", "refused", "strikes")

    def __init__(self, options: PushOptions, now: float) -> None:
        self._bucket = TokenBucket(options.requests_per_s, options.request_burst, now)
        self._ids: set[RequestId] = set()
        self._reads: dict[Work, CancelScope] = {}
        self._waiting: deque[Work] = deque()
        self.count = 0
        """Requests that run or wait."""
        self.refused = 0
        """Requests refused as too many, since the last one that was not."""
        self.strikes = 0
        """Broken messages since the last good one."""
        self._writes: CancelScope | None = None
        self._run: Work | None = None

    def take(self, now: float) -> float:
        """0 if one more message is allowed now, else in how many seconds."""
        return self._bucket.take(now)

    def is_in_flight(self, request_id: RequestId) -> bool:
        """Whether a request with that id has not been answered."""
        return request_id in self._ids

    def is_idle(self, now: float) -> bool:
        """Whether nothing of it matters any more."""
        return not self.count and not self.refused and not self.strikes and self._bucket.is_full(now)

    def begin(self, work: Work) -> None:
        """A request is taken on."""
        self.count += 1
        if work.id is not None:
            self._ids.add(work.id)

    def end(self, work: Work) -> None:
        """It has been answered, or never will be."""
        self.count -= 1
        if work.id is not None:
            self._ids.discard(work.id)
        self._reads.pop(work, None)

    def reads(self, work: Work, scope: CancelScope) -> None:
        """A reading request runs in that scope: nobody misses it when the connection is gone."""
        self._reads[work] = scope

    def wait(self, work: Work) -> None:
        """A writing request queues up behind the others."""
        self._waiting.append(work)

    @property
    def writing(self) -> bool:
        """Whether a task is working through the writing requests."""
        return self._writes is not None

    def writes(self, scope: CancelScope | None) -> None:
        """A task in that scope works through the writing requests; None: there is none any more."""
        self._writes = scope

    def next_write(self) -> Work | None:
        """The writing request whose turn it is."""
        self._run = self._waiting.popleft() if self._waiting else None
        return self._run

    def connection_ended(self, *, in_order: bool) -> None:
        """Nobody waits for answers any more: reads are cancelled.

        Of a connection that ended in order, writes are still done. Of one that broke they are not, unless
        they are being committed: the client has no answer, so it asks again, on whatever replica; and a write
        that came behind its repetition would undo what was written in between.
        """
        for scope in self._reads.values():
            scope.cancel()
        if not in_order:
            self._waiting.clear()
            # What a source does beyond our own rows goes on to its end, whoever still wants to know.
            if self._writes is not None and not (self._run is not None and self._run.endpoint.acts):
                self._writes.cancel()
