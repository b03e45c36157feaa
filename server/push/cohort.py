"""Subscriptions of one feed that stand at one place and get everything at once.

Most sockets of a feed with many differ in nothing: each got the same frame last, each takes the next one.
What each would have to be asked (where it stands, in what form it wants its changes, whether it may be
written to) is therefore not asked but kept as membership: who differs is no member. What is left of a
delivery is one call of the transport; neither the subscription nor its connection is touched.

With the loop in C (see `native`) it is one system call. The bytes then go past the transport, which is right
as long as nothing waits in it: who joins has nothing there, what a member's socket does not take is given to
the transport at once, and a member for which something is written otherwise, and waits, leaves.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

from protocol.closing import CloseCode
from server.push.native import SendAll, plain_descriptor

if TYPE_CHECKING:
    from server.push.subscription import Position, Subscription

__all__ = ["Cohort"]


class Cohort:
    """Its members share `form` and `position`. Written to as one; bounded by whoever lets members in."""

    __slots__ = ("_fds", "_send_all", "_subs", "_transports", "form", "position", "sent")

    def __init__(self, form: int, position: Position, send_all: SendAll | None = None) -> None:
        self.form = form
        self.position = position
        self.sent = 0.0
        """When (monotonic) it was last written to."""
        # Lists in one order; each member knows its place in them.
        self._subs: list[Subscription] = []
        self._transports: list[asyncio.Transport] = []
        self._send_all = send_all
        self._fds: array[int] = array("i")
        """Only for `send_all`."""

    def __len__(self) -> int:
        return len(self._subs)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._subs)

    def holds(self, position: Position) -> bool:
        """Whether that is where its members stand."""
        return self.position.number == position.number and self.position.cursor == position.cursor

    def add(self, sub: Subscription) -> None:
        """A member more: it stands where all of them do."""
        sub.cohort = self
        sub.place = len(self._subs)
        self._subs.append(sub)
        transport = sub.connection.transport
        self._transports.append(transport)
        if self._send_all is not None:
            assert not transport.get_write_buffer_size(), "who joins has nothing waiting"
            self._fds.append(plain_descriptor(transport))

    def remove(self, sub: Subscription) -> None:
        """It goes, and takes with it what was kept for all: where it stands, and when it was last sent to."""
        assert sub.cohort is self
        last, transport = self._subs.pop(), self._transports.pop()
        if last is not sub:
            self._subs[sub.place], self._transports[sub.place] = last, transport
            last.place = sub.place
        if self._send_all is not None:
            fd = self._fds.pop()
            if last is not sub:
                self._fds[sub.place] = fd
        sub.cohort = None
        sub.position = self.position
        line = sub.connection.line
        line.sent = max(line.sent, self.sent)

    def write(self, frame: bytes, position: Position, now: float) -> int:
        """Writes the frame, which leads to that position, to all; to how many. What a transport raises passes
        through: its connection is given up, and those who were to come after it are caught up by the tick."""
        before, self.position = self.position, position
        self.sent = now
        # Copies: who is full after this frame leaves at once, within the call.
        subs = tuple(self._subs)
        if self._send_all is not None:
            self._write_rest(frame, [(subs[place], sent) for place, sent in self._send_all(self._fds, frame)])
            return len(subs)
        transports = iter(tuple(self._transports))
        try:
            for transport in transports:
                transport.write(frame)
        except Exception:
            self._interrupted(subs[len(subs) - len(list(transports)) - 1 :], before)
            raise
        return len(subs)

    def _write_rest(self, frame: bytes, rest: list[tuple[Subscription, int]]) -> None:
        """Gives the transports what their sockets have not taken."""
        while rest:
            sub, sent = rest.pop()
            try:
                sub.connection.write(frame[sent:])
            except Exception:
                # None of these can go on: what they have is half a frame.
                for broken in (sub, *(sub for sub, _ in rest)):
                    broken.connection.abort(CloseCode.INTERNAL)
                raise

    def _interrupted(self, subs: tuple[Subscription, ...], before: Position) -> None:
        for sub in subs:
            if sub.cohort is self:
                sub.fanout.part(sub)
                sub.position = before
        subs[0].connection.give_up()
        for sub in subs[1:]:
            sub.connection.changed()
