"""One feed as the client knows it: its last state, and the cursor that names it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

import anyio

from protocol.client.failures import ClientError
from protocol.client.latest import Latest
from protocol.delta import Delta, DeltaError, apply
from protocol.feed import FeedState, reading
from protocol.frozen import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FeedReader", "FeedView"]

# Event loops don't take timers of any length; nobody minds waking up once in a while.
_MOST_WAIT_S: Final = 3600.0
_LEAST_WAIT_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a feed; `failure` once nothing more will come."""

    state: FeedState | None = None
    failure: ClientError | None = None


class FeedView:
    """A feed that follows the server's. Iterating over it gives its newest state whenever it has changed:
    a slow reader skips what came meanwhile.

    Items are hidden from their `expires_at` on, whether or not there is a connection.
    """

    def __init__(self, name: str | None, now: Callable[[], datetime]) -> None:
        self._name = name
        self._now = now
        self._cursor: str | None = None
        self._at: datetime | None = None
        self._known = Latest(_Known())
        self._synced = False

    @property
    def name(self) -> str | None:
        """The user whose feed it is; None until the server has said who we are."""
        return self._name

    @property
    def cursor(self) -> str | None:
        """Names the last state; for coming back to it after a restart, say."""
        return self._cursor

    @property
    def at(self) -> datetime | None:
        """The time of the oldest change in the last message."""
        return self._at

    @property
    def state(self) -> FeedState | None:
        """The last state without what has expired by now; None before the first."""
        state = self._known.value.state
        return None if state is None else state.without_expired(self._now())

    @property
    def failure(self) -> ClientError | None:
        """Why nothing more will come; None while something may."""
        return self._known.value.failure

    @property
    def is_synced(self) -> bool:
        """Whether the state follows the server's over the present connection."""
        return self._synced

    def __aiter__(self) -> FeedReader:
        return FeedReader(self._known, self._now)

    def rename(self, name: str) -> None:
        """The server has said whose feed it is. Another user's than before: what was known is dropped."""
        if self._name not in (None, name):
            self._cursor = None
            self._known.set(_Known())
        self._name = name

    def take_snapshot(self, params: JsonObject) -> None:
        """A whole state. Raises ValueError where it is none."""
        state, cursor = FeedState.from_wire(params), reading.text(params, "cursor")
        self._take(state, cursor, reading.moment(params, "at"))

    def take_delta(self, params: JsonObject) -> bool:
        """A change. False where it does not belong to the last state: the feed must be read anew."""
        state = self._known.value.state
        if state is None or reading.text(params, "base") != self._cursor:
            self._synced = False
            return False
        try:
            delta = Delta.from_wire(params)
            changed = state if delta.is_empty else apply(state, delta)
        except DeltaError:
            self._synced = False
            return False
        self._take(changed, reading.text(params, "cursor"), reading.moment(params, "at"))
        return True

    def forget_cursor(self) -> None:
        """The next connection is to begin with a whole state."""
        self._cursor = None
        self._synced = False

    def lose_sync(self) -> None:
        """The connection is gone: the state may be old from now on."""
        self._synced = False

    def fail(self, failure: ClientError) -> None:
        """Nothing more will come: readers raise `failure` after the last state."""
        self._synced = False
        self._known.set(_Known(self._known.value.state, failure))

    def _take(self, state: FeedState, cursor: str, at: datetime) -> None:
        self._cursor, self._at, self._synced = cursor, at, True
        if state != self._known.value.state:
            self._known.set(_Known(state))


class FeedReader:
    """Gives the newest state each time there is one that was not given yet."""

    def __init__(self, known: Latest[_Known], now: Callable[[], datetime]) -> None:
        self._known = known
        self._now = now
        self._seen = -1
        self._shown: FeedState | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FeedState:
        while True:
            known, self._seen = self._known.value, self._known.version
            state = None if known.state is None else known.state.without_expired(self._now())
            if state is not None and state != self._shown:
                self._shown = state
                return state
            if known.failure is not None:
                raise known.failure.with_traceback(None)
            with anyio.move_on_after(self._wait_s(known.state)):
                await self._known.wait_newer(self._seen)

    def _wait_s(self, state: FeedState | None) -> float:
        """Until time alone changes what is shown."""
        now = self._now()
        expiry = None if state is None else state.next_expiry(now)
        return (
            _MOST_WAIT_S
            if expiry is None
            else min(max((expiry - now).total_seconds(), _LEAST_WAIT_S), _MOST_WAIT_S)
        )
