"""One feed and all its subscribers on this replica: from a revision to bytes in sockets.

No subscriber has a queue. Each keeps only what it last got; when it is writable and due, it is given what
`Changes` says leads from there to the present. Where there are many, those who stand at one place are kept
and served together (`Cohort`); the others, and all of a feed with few, one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.encoding import notification
from protocol.frozen import JsonValue
from protocol.ids import UserId
from server.push.changes import Change, Changes, snapshot_of
from server.push.cohort import Cohort
from server.push.frames import Message
from server.push.subscription import Form, Position, Subscription
from server.session.listeners import CloseReason
from server.session.user_session import UserSession

if TYPE_CHECKING:
    from server.push.hub import Hub

__all__ = ["Fanout"]

# Cohorts are bounded by what is written in one turn of the loop, so that the turn is not much longer.
_COHORTS_A_TURN: Final = 4
# More that are less than half full are worth being put together. (Of sixteen forms, mostly one is in use.)
_MOST_SMALL: Final = 16


class Fanout:
    """Listens to one session for any number of subscriptions. It attaches with the first, and detaches with
    the last."""

    __slots__ = ("_again", "_changes", "_cohorts", "_count", "_hub", "_loose", "_todo", "session")

    def __init__(self, session: UserSession, hub: Hub) -> None:
        self.session = session
        self._hub = hub
        self._count = 0
        # Each subscriber is in one of these: on its own, or in a cohort.
        self._loose: dict[Subscription, None] = {}
        self._cohorts: list[Cohort] = []
        self._changes = Changes(session.user, session.epoch, session.history, hub.clock)
        self._todo: list[Cohort | Subscription] = []
        self._again = False

    @property
    def feed(self) -> UserId:
        """The feed's name: its user."""
        return self.session.user

    @property
    def subs(self) -> list[Subscription]:
        """All who follow it here."""
        return [*self._loose, *(sub for cohort in self._cohorts for sub in cohort)]

    # Subscriptions

    def add(self, sub: Subscription, since: str | None) -> None:
        """Begins to follow: from here on nothing is lost or doubled. The first frame is owed at once; what it
        is depends on the cursor. Raises SessionRemoved if the session has ended."""
        if not self._count:
            self.session.attach(self)
        self._count += 1
        self._loose[sub] = None
        self.resume(sub, since)

    def resume(self, sub: Subscription, since: str | None) -> None:
        """Sets a subscription back to the state of a cursor, or to nothing; a first frame is owed."""
        self.part(sub)
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
        self.part(sub)
        if sub not in self._loose:
            return
        self.set_listening(sub, listens=False)
        del self._loose[sub]
        self._count -= 1
        if sub in self._todo:
            self._todo.remove(sub)
        self._hub.pacer.forget(sub)
        if not self._count:
            self.session.detach(self)
            self._hub.members.fanout_left(self)

    def set_listening(self, sub: Subscription, *, listens: bool) -> None:
        """Whether the subscription counts as listening (a background connection's does not)."""
        if self._is_ours(sub) and sub.listens is not listens:
            sub.listens = listens
            if listens:
                self.session.listen()
            else:
                self.session.unlisten()

    def join(self, sub: Subscription) -> None:
        """Its connection takes each change as one write: it is served with those who stand where it does.
        Without effect while there are few."""
        if (
            self._count >= self._hub.options.cohorts_from
            and sub in self._loose
            and not sub.connection.transport.get_write_buffer_size()
        ):
            cohort = self._cohort_for(sub)
            if cohort is not None:
                del self._loose[sub]
                cohort.add(sub)

    def part(self, sub: Subscription) -> None:
        """It is no longer like all the others: from now on it is served on its own."""
        cohort = sub.cohort
        if cohort is not None:
            cohort.remove(sub)
            self._loose[sub] = None
            if not len(cohort):
                self._cohorts.remove(cohort)

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
        for sub in (subs := self.subs):
            self.part(sub)
        self._loose, self._todo, self._count = {}, [], 0
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
            self._todo = [*self._loose, *self._cohorts]
        return self._push_some(now)

    def flush_rest(self, now: float) -> bool:
        """Goes on where `flush` has stopped."""
        return self._push_some(now)

    def take(self, sub: Subscription, now: float) -> bytes | None:
        """The frame that brings this one subscription to the present; None if it has nothing to get now."""
        self.part(sub)
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
        self._tally(change, 1)
        self._settle(sub, change.position, now)
        if self._count == 1:
            self._changes.forget()  # nobody else will want the same frame
        return change.frame

    def snapshot_for(self, sub: Subscription) -> bytes:
        """The answer to `feed.get` on a subscribed feed: a revision of the subscription, its next base."""
        self.part(sub)
        self._changes.look()
        self._settle(sub, self._changes.here, self._hub.clock.monotonic())
        return snapshot_of(self.session, context=bool(sub.form & Form.CONTEXT))

    def _push_some(self, now: float) -> bool:
        try:
            self._changes.look()
        except Exception:
            self._todo, self._again = [], False  # as long as it is so, there is nothing to tell anybody
            raise
        room = self._hub.options.pushes_at_once
        todo = self._todo
        while todo and room > 0:
            one = todo.pop()
            room -= self._push_all(one, now) if isinstance(one, Cohort) else self._push_one(one, now)
        if not todo:
            if not self._again:
                self._changes.forget()
                self._gather()
                return True
            self._again = False
            self._todo = [*self._loose, *self._cohorts]
        return False

    def _push_all(self, cohort: Cohort, now: float) -> int:
        """The hot path: to how many."""
        try:
            change = self._changes.change(cohort.position, cohort.form)
        except Exception:
            for sub in tuple(cohort):
                sub.connection.give_up()
            raise
        if change.frame is None:
            cohort.position = change.position
            return 0
        count = cohort.write(change.frame, change.position, now)
        self._tally(change, count)
        return count

    def _push_one(self, sub: Subscription, now: float) -> int:
        connection = sub.connection
        if sub.cohort is not None:
            return 0  # it has joined since, where it stood
        if not connection.quick:
            if connection.can_push:
                self._hub.tick.write(connection)
            return 1
        try:
            change = self._changes.change(sub.position, sub.form)
        except Exception:
            connection.give_up()
            raise
        sub.position = change.position
        if change.frame is not None:
            connection.write_change(change.frame, now)
            self._tally(change, 1)
        if connection.quick:
            self.join(sub)
        return 1

    def _gather(self) -> None:
        """Members of many small cohorts, which slow sockets leave behind, are let go: they come together in
        few with the next change."""
        small = [cohort for cohort in self._cohorts if 2 * len(cohort) < self._most]
        if len(small) > _MOST_SMALL:
            for sub in [sub for cohort in small for sub in cohort]:
                self.part(sub)

    @property
    def _most(self) -> int:
        """So many members has a cohort."""
        return max(1, self._hub.options.pushes_at_once // _COHORTS_A_TURN)

    def _is_ours(self, sub: Subscription) -> bool:
        return sub.cohort is not None or sub in self._loose

    def _cohort_for(self, sub: Subscription) -> Cohort | None:
        position, current = sub.position, self.session.history.current
        if position is None:
            return None
        for cohort in self._cohorts:
            if cohort.form == sub.form and len(cohort) < self._most and cohort.holds(position):
                return cohort
        # A new one only at the present, where soon all others stand, too: one that is behind, or that knows
        # the state by a name of its own, is brought there first.
        if position.number != current.number or position.cursor != current.cursor:
            return None
        made = Cohort(sub.form, position, self._hub.options.send_all)
        self._cohorts.append(made)
        return made

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

    def _tally(self, change: Change, subscribers: int) -> None:
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
