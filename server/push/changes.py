"""What takes a subscription from where it stands to what the feed is now: decided, encoded and framed once
for all that stand at the same place and want it in the same form.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

from protocol.delta import Delta, diff
from protocol.encoding import delta_message, snapshot_message, snapshot_result
from protocol.feed import Cursor, FeedState
from protocol.ids import UserId
from protocol.times import to_ms
from protocol.transport import MAX_FRAME_BYTES
from server.engine.clock import Clock
from server.push.frames import Message
from server.push.subscription import Form, Position
from server.session.history import FeedHistory, Revision
from server.session.user_session import UserSession

__all__ = ["URGENT", "Change", "Changes", "read_cursor", "snapshot_of"]

# No minimal interval holds back a new item of this urgency.
URGENT: Final = 0.8
# A snapshot is looked at instead of a delta only where it could be smaller: not below this size.
_SNAPSHOT_FROM_BYTES: Final = 1024


@lru_cache(maxsize=64)
def read_cursor(feed: UserId, text: str) -> Cursor | None:
    """The cursor that a client names, None for what is none. Who comes back is asked for it in several
    places, in one go: it is read once."""
    return Cursor.decode(feed, text)


class Change:
    """A frame, or None where this form has nothing to show; and the position it leads to."""

    __slots__ = ("at", "frame", "is_snapshot", "merged", "position", "urgent")

    def __init__(
        self,
        position: Position,
        frame: bytes | None,
        at: datetime,
        *,
        is_snapshot: bool = False,
        urgent: bool = False,
        merged: int = 1,
    ) -> None:
        self.position = position
        self.frame = frame
        self.at = at
        self.is_snapshot = is_snapshot
        self.urgent = urgent
        self.merged = merged
        """How many revisions it holds."""


class Changes:
    """The changes of one feed to its present revision, made when they are first asked for."""

    __slots__ = ("_clock", "_diffs", "_epoch", "_feed", "_history", "_kept", "_position", "_revision")

    def __init__(self, feed: UserId, epoch: bytes, history: FeedHistory, clock: Clock) -> None:
        self._feed = feed
        self._epoch = epoch
        self._history = history
        self._clock = clock
        self._revision = history.current
        self._position: Position | None = None
        self._kept: dict[tuple[Position | None, int], Change] = {}
        self._diffs: dict[int, Delta] = {}

    def look(self) -> None:
        """Drops what belongs to a former revision; to be called before `here` and `change`."""
        current = self._history.current
        if current is not self._revision:
            self.forget()
            self._revision = current

    def forget(self) -> None:
        """Drops everything: what is kept for late comers would be kept by every idle feed."""
        self._kept.clear()
        self._diffs.clear()
        self._position = None

    @property
    def here(self) -> Position:
        """The present revision's position: one object for all that are brought to it."""
        position = self._position
        if position is None:
            position = self._position = Position(self._revision.number, self._revision.cursor)
        return position

    def change(self, position: Position | None, form: int) -> Change:
        """What leads from a position to the present."""
        change = self._kept.get((position, form))
        if change is None:
            change = self._kept[position, form] = self._make(position, form)
        return change

    def first(self, position: Position | None, form: int, at: datetime) -> Change:
        """The first frame after an attach, a resume or a return at that time: sent even if nothing is new."""
        base = None if position is None else self._history.since(position.number)
        if position is None or base is None or not form & Form.DELTA:
            return self._snapshot(form, at, 1)
        delta = self._diff(base)
        cursor = read_cursor(self._feed, position.cursor)
        if cursor is None or cursor.epoch != self._epoch:
            delta = _with_uncertain(delta, self._revision.state)
        return self._delta(position, form, delta, at, max(1, self._revision.number - base.number))

    def known(self, since: str) -> Position | None:
        """The position of a client that comes back with a cursor; None if it must be given a snapshot."""
        cursor = read_cursor(self._feed, since)
        revision = None if cursor is None else self._history.find(cursor, self._epoch)
        return None if revision is None else Position(revision.number, since)

    def _make(self, position: Position | None, form: int) -> Change:
        current = self._revision
        base = None if position is None else self._history.since(position.number)
        if position is None or base is None:
            number = 0 if position is None else position.number
            return self._snapshot(form, self._history.oldest_at_after(number), current.number - number)
        if base is current:
            return Change(position, None, current.at)
        delta = self._diff(base)
        if delta.is_content_empty and not (form & Form.CONTEXT and delta.context is not None):
            # Nothing this form shows: the client's cursor stays, the comparison starts from here.
            return Change(Position(current.number, position.cursor), None, current.at)
        at = self._history.oldest_at_after(base.number)
        merged = current.number - base.number
        if form & Form.DELTA:
            change = self._delta(position, form, delta, at, merged)
        else:
            change = self._snapshot(form, at, merged)
        change.urgent = _brings_urgent(base.state, delta)
        return change

    def _delta(self, position: Position, form: int, delta: Delta, at: datetime, merged: int) -> Change:
        current = self._revision
        payload = delta_message(
            self._feed,
            position.cursor,
            current.cursor,
            at,
            delta,
            context=bool(form & Form.CONTEXT),
            cause=self._cause(at, merged) if form & Form.CAUSE else None,
        )
        touched = len(delta.put) + len(delta.move) + len(delta.remove)
        if len(payload) > _SNAPSHOT_FROM_BYTES and 2 * touched >= len(current.state.items):
            snapshot = self._snapshot_payload(form, at)
            if len(snapshot) < len(payload) or len(payload) > MAX_FRAME_BYTES:
                return self._snapshot(form, at, merged)
        frame = Message(payload).frame(deflate=bool(form & Form.DEFLATE))
        return Change(self.here, frame, at, merged=merged)

    def _snapshot(self, form: int, at: datetime, merged: int) -> Change:
        frame = Message(self._snapshot_payload(form, at)).frame(deflate=bool(form & Form.DEFLATE))
        return Change(self.here, frame, at, is_snapshot=True, merged=max(1, merged))

    def _snapshot_payload(self, form: int, at: datetime) -> bytes:
        current = self._revision
        return snapshot_message(
            self._feed, current.cursor, at, current.state, context=bool(form & Form.CONTEXT)
        )

    def _diff(self, base: Revision) -> Delta:
        delta = self._diffs.get(base.number)
        if delta is None:
            delta = self._diffs[base.number] = diff(base.state, self._revision.state)
        return delta

    def _cause(self, at: datetime, merged: int) -> dict[str, object]:
        cause = self._revision.cause
        said: dict[str, object] = {} if cause.source_id is None else {"sourceId": cause.source_id}
        waited_s = (self._clock.now() - at).total_seconds()
        return said | {
            "trigger": cause.trigger,
            "computeMs": round(cause.compute_ms, 3),
            "waitedMs": max(0, to_ms(waited_s)),
            "merged": merged,
        }


def snapshot_of(session: UserSession, *, context: bool) -> bytes:
    """The feed as it is now, as `feed.get` answers it."""
    current = session.history.current
    return snapshot_result(session.user, current.cursor, current.at, current.state, context=context)


def _brings_urgent(old: FeedState, delta: Delta) -> bool:
    """Whether there is a new item that no minimal interval holds back."""
    urgent = [
        item.id
        for _, item in delta.put
        if item.signals is not None and item.signals.urgency is not None and item.signals.urgency >= URGENT
    ]
    if not urgent:
        return False
    known = {item.id for item in old.items}
    return any(item_id not in known for item_id in urgent)


def _with_uncertain(delta: Delta, state: FeedState) -> Delta:
    """The delta, and whole what a cursor's digest does not cover: a client of another session with the same
    content may know other pending sources and other times of the same errors."""
    return Delta(
        delta.put,
        delta.move,
        delta.remove,
        delta.groups,
        state.errors or delta.errors,
        state.pending,
        delta.context,
    )
