"""Who is connected to this replica, by user; and who was, for a while."""

from __future__ import annotations

from asyncio import Transport
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from anyio import Event

from protocol.ids import UserId
from server.log import debugs, user_hash
from server.push.closing import Farewell
from server.push.connection import Connection
from server.push.fanout import Fanout
from server.push.hub import Hub
from server.push.inbound import FrameParser
from server.push.limits import Counts

__all__ = ["Closed", "Registry"]

_log = structlog.stdlib.get_logger(__name__)

# Of how many users, and how many of each, the last ends are remembered for `user.inspect`.
_CLOSED_USERS = 2_000
_CLOSED_EACH = 8


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection that has ended, and how."""

    at: datetime
    code: int
    reason: str
    client: str | None


class Registry:
    """All connections, and the sockets of those that are closing (`Members` of the hub)."""

    def __init__(
        self,
        hub: Hub,
        *,
        on_fanout_left: Callable[[Fanout], None],
        figures: Callable[[], Mapping[str, object]],
    ) -> None:
        self._hub = hub
        self._on_fanout_left = on_fanout_left
        self._figures = figures
        self._by_user: dict[UserId, Connection | tuple[Connection, ...]] = {}
        self._last: dict[UserId, deque[Closed]] = {}
        self._closing: set[Farewell] = set()
        self._empty: Event | None = None
        self.addresses: Counts[str] = Counts()
        self.count = 0
        """Connections that have not ended."""

    def __iter__(self) -> Iterator[Connection]:
        for user in tuple(self._by_user):
            yield from self.of(user)

    @property
    def sockets(self) -> int:
        """Connections, and sockets of those that are closing."""
        return self.count + len(self._closing)

    @property
    def users(self) -> int:
        """How many users are connected."""
        return len(self._by_user)

    def of(self, user: UserId) -> tuple[Connection, ...]:
        """The connections of one user, the oldest first."""
        # Nearly everybody has one: a tuple each would be 48 bytes of nothing.
        found = self._by_user.get(user, ())
        return found if isinstance(found, tuple) else (found,)

    def add(self, connection: Connection) -> None:
        """A connection begins."""
        others = self.of(connection.user)
        self._by_user[connection.user] = (*others, connection) if others else connection
        self.count += 1
        if debugs():
            _log.debug(
                "connection_opened",
                connection=connection.id,
                user=user_hash(connection.user),
                client=connection.client,
            )
        if connection.address is not None:
            self.addresses.add(connection.address)

    def left(self, connection: Connection, code: int, reason: str) -> None:
        """A connection has ended; its socket may still be closing."""
        user = connection.user
        others = tuple([other for other in self.of(user) if other is not connection])
        if not others:
            del self._by_user[user]
        else:
            self._by_user[user] = others[0] if len(others) == 1 else others
        self.count -= 1
        if connection.address is not None:
            self.addresses.drop(connection.address)
        if debugs():
            _log.debug(
                "connection_closed",
                connection=connection.id,
                user=user_hash(user),
                code=int(code),
                reason=reason,
            )
        closed = self._hub.counters.closed
        closed[code] = closed.get(code, 0) + 1
        self._remember(user, Closed(self._hub.clock.now(), code, reason, connection.client))
        self._tell_empty()

    def say_farewell(self, transport: Transport, parser: FrameParser) -> None:
        """A close frame is written, and waits for the peer's."""
        hub = self._hub
        deadline = hub.clock.monotonic() + hub.options.close_timeout_s
        self._closing.add(Farewell(transport, parser, hub.sweeper, deadline=deadline, on_gone=self._gone))

    def abort(self) -> None:
        """Cuts every socket that is closing."""
        for farewell in tuple(self._closing):
            farewell.abort()

    def fanout_left(self, fanout: Fanout) -> None:
        """Nobody here follows that feed any more."""
        self._on_fanout_left(fanout)

    def figures(self) -> Mapping[str, object]:
        """The params of a `stats.update`."""
        return self._figures()

    def last_closed(self, user: UserId) -> tuple[Closed, ...]:
        """How that user's last connections ended here, the latest first."""
        return tuple(reversed(self._last.get(user, ())))

    async def wait_empty(self) -> None:
        """Returns once no socket of a connection is left."""
        while self.sockets:
            self._empty = self._empty or Event()
            await self._empty.wait()

    def _gone(self, farewell: Farewell) -> None:
        self._closing.discard(farewell)
        self._tell_empty()

    def _tell_empty(self) -> None:
        if not self.sockets and self._empty is not None:
            self._empty.set()
            self._empty = None

    def _remember(self, user: UserId, closed: Closed) -> None:
        last = self._last.pop(user, None)
        if last is None:
            last = deque[Closed](maxlen=_CLOSED_EACH)
            if len(self._last) >= _CLOSED_USERS:
                del self._last[next(iter(self._last))]
        last.append(closed)
        self._last[user] = last
