"""The feeds that a client follows: its own and those it watches, over one connection after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio

from protocol.client.conversation import Conversation
from protocol.client.failures import ClientError, ConnectionLost, FeedClosed
from protocol.client.latest import Latest
from protocol.client.view import FeedView
from protocol.errors import RpcError, error_from_wire
from protocol.feed import reading
from protocol.frozen import JsonObject

__all__ = ["Following", "Watched"]

# So many feeds are subscribed to in one request: well under the bound on a message.
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Watched:
    """A watched feed, and how often at most it wants to hear of changes."""

    view: FeedView
    min_interval_ms: int | None

    def asked(self) -> dict[str, object]:
        """The feed as `feed.subscribe` names it."""
        entry: dict[str, object] = {"feed": self.view.name}
        if self.view.cursor is not None:
            entry["since"] = self.view.cursor
        if self.min_interval_ms is not None:
            entry["minIntervalMs"] = self.min_interval_ms
        return entry


class Following:
    """Knows which message belongs to which feed, and which feed must be read anew."""

    def __init__(self, now: Callable[[], datetime], *, own: bool) -> None:
        self.own = FeedView(None, now)
        self._follows_own = own
        self.watched: dict[str, Watched] = {}
        self.arrivals = Latest(0)
        self._now = now
        self._resyncing: set[str] = set()

    def add(self, feed: str, min_interval_ms: int | None) -> Watched:
        """A feed to watch from now on."""
        watched = self.watched[feed] = Watched(FeedView(feed, self._now), min_interval_ms)
        return watched

    def end(self, feed: str, failure: ClientError) -> None:
        """The feed is watched no longer; its readers raise `failure`."""
        if watched := self.watched.pop(feed, None):
            watched.view.fail(failure)

    def end_all(self, failure: ClientError) -> None:
        """Nothing is followed any longer."""
        self.own.fail(failure)
        for feed in list(self.watched):
            self.end(feed, failure)

    def disconnected(self) -> None:
        """The connection is gone; what is known stays."""
        self._resyncing.clear()
        for view in self._views():
            view.lose_sync()

    def take_snapshot(self, params: JsonObject) -> None:
        """A whole feed. Raises ValueError where it is none."""
        if view := self._view(params):
            view.take_snapshot(params)
            self._resyncing.discard(reading.text(params, "feed"))
            self.arrivals.set(self.arrivals.value + 1)

    def take_delta(self, params: JsonObject) -> FeedView | None:
        """A change. Answers the feed that must be read anew, if this was the first sign of it.

        Until it has been, its deltas are passed over. Raises ValueError where it is no delta.
        """
        feed = reading.text(params, "feed")
        view = self._view(params)
        if view is None or feed in self._resyncing:
            return None
        if view.take_delta(params):
            self.arrivals.set(self.arrivals.value + 1)
            return None
        self._resyncing.add(feed)
        return view

    async def resync(self, conversation: Conversation, view: FeedView, timeout_s: float) -> bool:
        """Reads a feed anew. False where that failed over a connection that is still there: without a base
        the feed would stand still for good."""
        try:
            await conversation.request("feed.get", {} if view is self.own else {"feed": view.name}, timeout_s)
        except ConnectionLost:
            return True
        except (RpcError, ClientError):
            view.forget_cursor()
            return False
        return True

    async def subscribe(
        self, conversation: Conversation, watched: Sequence[Watched], timeout_s: float
    ) -> None:
        """Subscribes to feeds, again and again where the refusal is temporary.

        What is refused for good has ended. Raises what `Conversation.request` raises.
        """
        waiting = list(watched)
        while waiting:
            batch, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            again, pause_s = await self._subscribe(conversation, batch, timeout_s)
            if again:
                waiting += again
                await anyio.sleep(pause_s)

    async def _subscribe(
        self, conversation: Conversation, batch: Sequence[Watched], timeout_s: float
    ) -> tuple[Sequence[Watched], float]:
        """Which of them to ask for once more, and after how long."""
        try:
            answer = await conversation.request(
                "feed.subscribe", {"feeds": [one.asked() for one in batch]}, timeout_s
            )
        except RpcError as refused:
            if refused.retry_in_ms is None:
                raise
            return batch, refused.retry_in_ms / 1000
        again: list[Watched] = []
        pause_s = 0.0
        for feed, error in _refusals(reading.as_object(answer)):
            if error.retry_in_ms is None:
                self.end(feed, FeedClosed(feed, error.message, error))
            elif feed in self.watched:
                again.append(self.watched[feed])
                pause_s = max(pause_s, error.retry_in_ms / 1000)
        return again, pause_s

    async def acknowledge(self, conversation: Conversation, every_s: float) -> None:
        """Tells the server what has arrived, at most so often. Runs until it is cancelled."""
        told: dict[str, str] = {}
        seen = -1
        while True:
            await self.arrivals.wait_newer(seen)
            seen = self.arrivals.version
            for view in self._views():
                if view.name is not None and view.cursor is not None and told.get(view.name) != view.cursor:
                    told[view.name] = view.cursor
                    await conversation.notify("feed.ack", {"feed": view.name, "cursor": view.cursor})
            await anyio.sleep(every_s)

    def _view(self, params: JsonObject) -> FeedView | None:
        feed = reading.text(params, "feed")
        if feed == self.own.name and self._follows_own:
            return self.own
        watched = self.watched.get(feed)
        return None if watched is None else watched.view

    def _views(self) -> Iterable[FeedView]:
        return [self.own, *(watched.view for watched in self.watched.values())]


def _refusals(answer: JsonObject) -> list[tuple[str, RpcError]]:
    return [
        (reading.text(entry, "feed"), error_from_wire(error))
        for _, entry in reading.objects(answer, "feeds")
        if (error := reading.object_or_none(entry, "error")) is not None
    ]
