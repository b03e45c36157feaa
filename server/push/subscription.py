"""One connection following one feed: what it last got, and the terms on which it gets more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from protocol.ids import UserId

if TYPE_CHECKING:
    from server.push.cohort import Cohort
    from server.push.connection import Connection
    from server.push.fanout import Fanout

__all__ = ["Form", "Position", "Subscription", "form_of"]


class Form:
    """How a subscription wants its changes, as bits: those of one form, starting from one position, share a
    frame. Plain integers, since they are compared for every delivery."""

    DELTA: Final = 1
    CONTEXT: Final = 2
    CAUSE: Final = 4
    DEFLATE: Final = 8


def form_of(*, delta: bool, context: bool, cause: bool, deflate: bool) -> int:
    """The bits of a form."""
    return Form.DELTA * delta + Form.CONTEXT * context + Form.CAUSE * cause + Form.DEFLATE * deflate


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """What a subscription last got: a revision's number, and the cursor the client knows it by.

    One object for all that got the same frame, compared by identity. It holds no state: where the feed has
    let that revision go, the subscription gets a snapshot.
    """

    number: int
    cursor: str


class Subscription:
    """Lives as long as its connection follows the feed. All decisions about it are the fanout's."""

    __slots__ = (
        "_form",
        "_position",
        "acked",
        "cohort",
        "connection",
        "due_at",
        "fanout",
        "hello",
        "interval_s",
        "listens",
        "paced",
        "place",
        "resume",
        "resumed_at",
    )

    def __init__(self, connection: Connection, fanout: Fanout, form: int, interval_s: float) -> None:
        self.connection = connection
        self.fanout = fanout
        self._form = form
        self.interval_s = interval_s
        self._position: Position | None = None
        self.cohort: Cohort | None = None
        """Those among whom it is served, while it differs in nothing from them; see `Cohort`."""
        self.place = 0
        """Its place among them; theirs to set."""
        self.hello: datetime | None = None
        """Set while a first frame is owed, which is sent even where nothing has changed: when it was asked
        for (attach, resume, foreground)."""
        self.due_at = 0.0
        """Not before this monotonic second, unless something urgent comes."""
        self.paced = False
        """Whether the pacer will wake it when it is due."""
        self.listens = False
        """Whether it counts as listening to the session."""
        self.acked: str | None = None
        self.resume = "snapshot"
        """How it began last: snapshot, delta (from the client's cursor), or same (content)."""
        self.resumed_at: datetime | None = None

    @property
    def feed(self) -> UserId:
        """The feed it follows."""
        return self.fanout.feed

    @property
    def form(self) -> int:
        """How it wants its changes; see `Form`."""
        return self._form

    @form.setter
    def form(self, form: int) -> None:
        assert self.cohort is None, "all of a cohort want the same"
        self._form = form

    @property
    def position(self) -> Position | None:
        """What it last got. None: it has nothing to build on, and gets a snapshot."""
        return self._position if self.cohort is None else self.cohort.position

    @position.setter
    def position(self, position: Position | None) -> None:
        assert self.cohort is None, "it stands where all of its cohort do"
        self._position = position

    @property
    def sent(self) -> float:
        """When (monotonic) it was last written to together with others; 0 for one that is on its own."""
        return 0.0 if self.cohort is None else self.cohort.sent

    @property
    def cursor(self) -> str | None:
        """The cursor the client has, None before its first frame."""
        position = self.position
        return None if position is None else position.cursor

    def due(self) -> None:
        """Its minimal interval is over: what it missed is written."""
        self.connection.hub.tick.write(self.connection)
