"""What all connections of a gateway share, under one name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from protocol.ids import ReplicaId, UserId
from server.engine.clock import Clock
from server.push.counters import Counters
from server.push.options import PushOptions
from server.push.pacer import Pacer
from server.push.sweeper import Sweeper
from server.push.tick import Tick

if TYPE_CHECKING:
    from asyncio import Transport

    from server.push.connection import Connection
    from server.push.fanout import Fanout
    from server.push.inbound import FrameParser

__all__ = ["Hub", "Members", "Requests"]


class Members(Protocol):
    """Who is connected here."""

    def of(self, user: UserId) -> Iterable[Connection]:
        """The connections of one user; may be changed while it is gone through."""
        ...

    def left(self, connection: Connection, code: int, reason: str) -> None:
        """The connection has ended; its socket may still be closing."""
        ...

    def say_farewell(self, transport: Transport, parser: FrameParser) -> None:
        """The close frame is written: what is left is to wait for the peer's, for a while."""
        ...

    def fanout_left(self, fanout: Fanout) -> None:
        """Nobody here follows that feed any more."""
        ...

    def figures(self) -> Mapping[str, object]:
        """The params of a `stats.update`, as of now."""
        ...


class Requests(Protocol):
    """What becomes of messages."""

    def receive(self, connection: Connection, payload: bytes) -> None:
        """A text message has come. Never waits, never raises."""
        ...

    def receive_binary(self, connection: Connection) -> None:
        """A message has come that is not text."""
        ...


class Hub:
    """Clock, knobs, the timers and the flush that all share, and the way to the gateway and the dispatcher.

    The last two need the hub themselves: they are put in by whoever builds all three.
    """

    __slots__ = (
        "clock",
        "counters",
        "degraded",
        "draw",
        "leeway_s",
        "members",
        "options",
        "pacer",
        "replica",
        "requests",
        "sweeper",
        "tick",
    )

    def __init__(
        self,
        *,
        options: PushOptions,
        clock: Clock,
        replica: ReplicaId,
        leeway_s: float,
        draw: Callable[[], float],
    ) -> None:
        self.options = options
        self.clock = clock
        self.replica = replica
        self.leeway_s = leeway_s
        """How long past its end a token still counts."""
        self.draw = draw
        """A number from 0 to 1, to spread what would else happen at once."""
        self.degraded: tuple[str, ...] = ()
        """What the server is without at the moment, by name; said in beats."""
        self.counters = Counters()
        self.tick = Tick(clock)
        self.sweeper = Sweeper(clock)
        self.pacer = Pacer(clock)
        self.members: Members
        self.requests: Requests
