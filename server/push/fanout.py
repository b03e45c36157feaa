"""One feed and all its subscribers on this replica: from a revision to bytes in sockets.

No subscriber has a queue. Each keeps only what it last got; when it is writable and due, it is given what
`Changes` says leads from there to the present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.encoding import notification
from protocol.frozen import JsonValue
from protocol.ids import UserId
from server.push.changes import Change, Changes, snapshot_of
from server.push.frames import Message
from server.push.subscription import Form, Position, Subscription
from server.session.listeners import CloseReason
from server.session.user_session import UserSession

if TYPE_CHECKING:
    from server.push.hub import Hub

__all__ = ["Fanout"]


class Fanout:
    """Listens to one session for any number of subscriptions. It attaches with the first, and detaches with
    the last."""

    __slots__ = ("_again", "_changes", "_hub", "_todo", "session", "subs")

    def __init__(self, session: UserSession, hub: Hub) -> None:
        self.session = session
        self.subs: dict[Subscription, None] = {}
        self._hub = hub
        self._changes = Changes(session.user, session.epoch, session.history, hub.clock)
        self._todo: list[Subscription] = []
        self._again = False

    @property
    def feed(self) -> UserId:
        """The feed's name: its user."""
        return self.session.user

    # Subscriptions

    def add(self, sub: Subscription, since: str | None) -> None:
        """Begins to follow: from here on nothing is lost or doubled. The first frame is owed at once; what it
        is depends on the cursor. Raises SessionRemoved if the session has ended."""
        if not self.subs:
            self.session.attach(self)
        self.subs[sub] = None
        self.resume(sub, since)

    def resume(self, sub: Subscription, since: str | None) -> None:
        """Sets a subscription back to the state of a cursor, or to nothing; a first frame is owed."""
        self._changes.look()
        sub.hello = self._hub.clock.now()
        sub.position = None if since is None else self._changes.known(since)
        sub.resume = self._outcome(sub)
        sub.resumed_at = sub.hello
        if since is not None:
            resumes = self._hub.counters.resumes
            resumes[sub.resume] = resumes.get(sub.resume, 0) + 1

    def discard(self, sub: Subscription) -> None:
        """Follows no more."""
        if sub not in self.subs:
            return
        self.set_listening(sub, listens=False)
        del self.subs[sub]
        if sub in self._todo:
            self._todo.remove(sub)
        self._hub.pacer.forget(sub)
        if not self.subs:
            self.session.detach(self)
            self._hub.members.fanout_left(self)

    def set_listening(self, sub: Subscription, *, listens: bool) -> None:
        """Whether the subscription counts as listening (a background connection's does not)."""
        if sub in self.subs and sub.listens is not listens:
            sub.listens = listens
            if listens:
                self.session.listen()
            else:
                self.session.unlisten()

    # The session's calls

    def on_revision(self, session: UserSession) -> None:
        """Something is new: the tick will push it."""
        self._hub.tick.revise(self)

    def on_source_changed(self, session: UserSession, source_state: dict[str, JsonValue]) -> None:
        """Every connection of the user learns of it, whichever feeds it follows."""
        message: Message | None = None
        for connection in self._hub.members.of(session.user):
            if connection.wants_settings:
                if message is None:
                    message = Message(notification("source.changed", {"source": source_state}))
                connection.push_changed(str(source_state["sourceId"]), message)

    def on_closed(self, session: UserSession, reason: CloseReason) -> None:
        """The session is gone for good: its followers learn why, or come back to another one."""
        subs, self.subs, self._todo = list(self.subs), {}, []
        self._hub.members.fanout_left(self)
        for sub in subs:
            self._hub.pacer.forget(sub)
            sub.connection.feed_closed(sub, reason)

    # Pushing

    def flush(self, now: float) -> bool:
        """Brings subscribers that are writable and due to the present, so many in one turn of the loop."""
        if self._todo:
            # A newer revision while the last one is still going round: once more when it has been.
            self._again = True
        else:
            self._todo = list(self.subs)
        return self._push_some(now)

    def flush_rest(self, now: float) -> bool:
        """Goes on where `flush` has stopped."""
        return self._push_some(now)

    def take(self, sub: Subscription, now: float) -> bytes | None:
        """The frame that brings this one subscription to the present; None if it has nothing to get now."""
        self._changes.look()
        if sub.hello is not None:
            change = self._changes.first(sub.position, sub.form, sub.hello)
        else:
            change = self._changes.change(sub.position, sub.form)
            if change.frame is None:
                sub.position = change.position
                return None
            if now < sub.due_at and not change.urgent:
                self._hub.pacer.wait(sub)
                return None
        self._count(change, 1)
        self._settle(sub, change.position, now)
        if len(self.subs) == 1:
            self._changes.forget()  # nobody else will want the same frame
        return change.frame

    def snapshot_for(self, sub: Subscription) -> bytes:
        """The answer to `feed.get` on a subscribed feed: a revision of the subscription, its next base."""
        self._changes.look()
        self._settle(sub, self._changes.here, self._hub.clock.monotonic())
        return snapshot_of(self.session, context=bool(sub.form & Form.CONTEXT))

    def _push_some(self, now: float) -> bool:
        most = self._hub.options.pushes_at_once
        batch, self._todo = self._todo[:most], self._todo[most:]
        self._push(batch, now)
        if not self._todo:
            if not self._again:
                self._changes.forget()
                return True
            self._again = False
            self._todo = list(self.subs)
        return False

    def _push(self, batch: list[Subscription], now: float) -> None:
        """The hot path: per socket little more than the write itself."""
        changes = self._changes
        changes.look()
        position: Position | None = None
        form = -1
        change: Change | None = None
        frame: bytes | None = None
        count = 0
        for sub in batch:
            connection = sub.connection
            if not connection.quick:
                if connection.can_push:
                    self._hub.tick.write(connection)
                continue
            if sub.position is not position or sub.form != form or change is None:
                if change is not None:
                    self._count(change, count)
                count = 0
                position, form = sub.position, sub.form
                change = changes.change(position, form)
                frame = change.frame
            sub.position = change.position
            if frame is not None:
                count += 1
                connection.line.sent = now
                connection.transport.write(frame)
        if change is not None:
            self._count(change, count)

    def _settle(self, sub: Subscription, position: Position, now: float) -> None:
        sub.position = position
        sub.hello = None
        if sub.interval_s:
            sub.due_at = now + sub.interval_s

    def _outcome(self, sub: Subscription) -> str:
        history = self.session.history
        revision = None if sub.position is None else history.since(sub.position.number)
        if revision is None or not sub.form & Form.DELTA:
            return "snapshot"
        return "same" if revision.state.digest == history.current.state.digest else "delta"

    def _count(self, change: Change, subscribers: int) -> None:
        if change.frame is None or not subscribers:
            return
        counters = self._hub.counters
        if change.is_snapshot:
            counters.snapshots += subscribers
        else:
            counters.deltas += subscribers
        counters.conflated += (change.merged - 1) * subscribers
        counters.bytes_out += len(change.frame) * subscribers
        age_s = (self._hub.clock.now() - change.at).total_seconds()
        counters.push_age.record(max(0.0, age_s), subscribers)
