"""One flush per turn of the event loop, for the whole process.

Whatever is to be written, a feed change, a reply, a notice, marks its feed or its connection here. At the end
of the turn each feed is compared and framed once, then each connection that needs more than a single frame
writes all of it at once: what one tick sends to one socket is one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol
from uuid import uuid4

import structlog

from server.engine.clock import Clock
from server.tracing import Mark, after, mark

__all__ = ["Flushed", "Revised", "Tick"]

# When an hour strikes, thousands of feeds change at once; about 20 us each.
_FEEDS_AT_ONCE: Final = 500

_log = structlog.stdlib.get_logger(__name__)


class Revised(Protocol):
    """A feed with subscribers."""

    def flush(self, now: float) -> bool:
        """Pushes to those who are due; False if it has not reached all of them. What it raises is logged."""
        ...

    def flush_rest(self, now: float) -> bool:
        """Goes on after a False, and after what was raised: with those who come next, if there are any."""
        ...


class Flushed(Protocol):
    """A connection with something to write."""

    def flush(self, now: float) -> None:
        """Writes what there is. What it raises is logged, and ends the connection."""
        ...

    def give_up(self) -> None:
        """A fault of ours: it can't be known any more what the peer has."""
        ...


class Tick:
    """Marks, and the flush that answers them in the next turn of the running loop."""

    __slots__ = ("_clock", "_flushed", "_rest", "_revised", "_scheduled", "revisions")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Dicts, so that each is served once and in the order in which they were marked.
        # A feed with the trail of the request that changed it, if somebody follows such trails.
        self._revised: dict[Revised, Mark | None] = {}
        self._flushed: dict[Flushed, None] = {}
        self._rest: dict[Revised, None] = {}
        self._scheduled = False
        self.revisions = 0
        """So many there were, of all feeds that are followed here."""

    def revise(self, feed: Revised) -> None:
        """The feed has a new revision."""
        self.revisions += 1
        self._revised[feed] = mark() or self._revised.get(feed)
        self._schedule()

    def write(self, connection: Flushed) -> None:
        """The connection has something to write, or may write again."""
        self._flushed[connection] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        now = self._clock.monotonic()
        self._flush_feeds(now)
        flushed, self._flushed = self._flushed, {}
        for connection in flushed:
            try:
                connection.flush(now)
            except Exception:
                _log.exception("write_failed", error_id=uuid4().hex)
                connection.give_up()
        if self._revised or self._rest:
            self._schedule()

    def _flush_feeds(self, now: float) -> None:
        """As many as fit into one turn: those that were not finished first, then those that are new."""
        rest, self._rest = self._rest, {}
        for feed in rest:
            if feed not in self._revised:
                self._flush_feed(feed, feed.flush_rest, now)
        for feed in list(islice(self._revised, _FEEDS_AT_ONCE)):
            place = self._revised.pop(feed)
            if place is None:
                self._flush_feed(feed, feed.flush, now)
                continue
            with after(place, "push"):
                self._flush_feed(feed, feed.flush, now)

    def _flush_feed(self, feed: Revised, flush: Callable[[float], bool], now: float) -> None:
        try:
            if not flush(now):
                self._rest[feed] = None
        except Exception:  # one feed's bug must not keep all the others from their sockets
            _log.exception("push_failed", error_id=uuid4().hex)
            self._rest[feed] = None  # nor the others of its own from theirs
