"""The feeds that are followed here: a `Fanout` each, and how a connection comes to follow one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from protocol.errors import FeedNotFound
from protocol.feed import Cursor
from protocol.ids import UserId
from server.push.auth import may_see_context
from server.push.changes import read_cursor
from server.push.connection import Connection
from server.push.fanout import Fanout
from server.push.hub import Hub
from server.push.subscription import Subscription, form_of
from server.session.errors import NoSuchUser, SessionError, SessionRemoved
from server.session.manager import SessionManager
from server.session.user_session import UserSession

__all__ = ["Feeds"]

# A session may be let go between being found and being followed, but not again and again.
_TRIES = 3


class Feeds:
    """All fanouts of this replica."""

    def __init__(self, manager: SessionManager, hub: Hub) -> None:
        self._manager = manager
        self._hub = hub
        self._fanouts: dict[UserId, Fanout] = {}

    def __len__(self) -> int:
        return len(self._fanouts)

    def __iter__(self) -> Iterator[Fanout]:
        return iter(tuple(self._fanouts.values()))

    async def session(self, feed: UserId, since: str | None, *, own: bool) -> UserSession:
        """The feed's session, holding at least the write that a cursor names: a reconnect never goes back in
        time, as far as a moment's patience can help it. Not made for another's feed unless that user exists
        (FeedNotFound). Raises SessionError.
        """
        cursor = None if since is None else read_cursor(feed, since)
        for _ in range(_TRIES):
            try:
                session = await self._manager.get_or_create(feed, existing=not own)
            except NoSuchUser:
                raise FeedNotFound(feed) from None
            if cursor is not None and cursor.seq > session.seq:
                await self._manager.bring_up_to(feed, cursor.seq)
            if cursor is not None and self._shows_older(session, cursor):
                await session.caught_up(self._hub.options.resume_wait_s)
            if not session.closed:
                return session
        raise SessionRemoved

    def prepare(self, feed: UserId, then: Callable[[UserSession | SessionError], None]) -> None:
        """Has the session made, without waiting: see `SessionManager.prepare`."""
        self._manager.prepare(feed, then)

    def warm(self, feed: UserId, since: str | None) -> UserSession | None:
        """The live session where `session` and `is_waiting_wise` would wait for nothing."""
        session = self._manager.live(feed)
        if session is None or session.closed:
            return None
        cursor = None if since is None else read_cursor(feed, since)
        if cursor is not None and (
            cursor.seq > session.seq
            or self._shows_older(session, cursor)
            or self.is_waiting_wise(session, cursor)
        ):
            return None
        return session

    @staticmethod
    def _shows_older(session: UserSession, cursor: Cursor) -> bool:
        """Whether the client may have seen from another replica what this session has read, but does not yet
        show."""
        return session.is_behind and session.history.find(cursor, session.epoch) is None

    def is_waiting_wise(self, session: UserSession, cursor: Cursor) -> bool:
        """Whether a moment's patience may spare a client that comes back from seeing its feed blank: there is
        nothing to show yet, and sources are still to answer."""
        state = session.history.current.state
        return bool(state.pending) and not state.items and session.history.find(cursor, session.epoch) is None

    def follow(
        self, connection: Connection, session: UserSession, since: str | None, interval_s: float
    ) -> Subscription:
        """Attaches the connection to the session; the first frame is owed. Attached before, it is set anew.

        Raises SessionRemoved if the session has ended.
        """
        sub = connection.subscription(session.user)
        if sub is not None:
            sub.interval_s = interval_s
            sub.due_at = 0.0
            sub.fanout.resume(sub, since)
            connection.changed()
            return sub
        fanout = self._fanouts.get(session.user)
        if fanout is None or fanout.session is not session:
            fanout = Fanout(session, self._hub)
        sub = Subscription(connection, fanout, self.form(connection, session.user), interval_s)
        fanout.add(sub, since)
        self._fanouts[session.user] = fanout
        connection.follow(sub)
        return sub

    def form(self, connection: Connection, feed: UserId) -> int:
        """How this connection wants, and may have, the changes of that feed."""
        params = connection.params
        return form_of(
            delta=params.delta,
            context=params.context and may_see_context(connection.bearer.claims, feed),
            cause=params.debug,
            deflate=connection.deflate,
        )

    def left(self, fanout: Fanout) -> None:
        """Nobody follows that feed any more, or its session has ended."""
        if self._fanouts.get(fanout.feed) is fanout:
            del self._fanouts[fanout.feed]

    def reach(self, feeds: Sequence[UserId]) -> Mapping[UserId, int]:
        """How many foreground connections follow each of these feeds here."""
        return {feed: self._foreground(feed) for feed in feeds}

    def _foreground(self, feed: UserId) -> int:
        fanout = self._fanouts.get(feed)
        return 0 if fanout is None else sum([sub.listens for sub in fanout.subs])
