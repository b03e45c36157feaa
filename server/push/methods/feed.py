"""`feed.*`: reading feeds and following them."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import create_task_group

from protocol.errors import Forbidden, LimitReached, RpcError, StorageUnavailableError
from protocol.feed import Cursor
from protocol.ids import UserId
from protocol.messages.base import NoParams
from protocol.messages.feed import (
    FeedAckParams,
    FeedGetParams,
    FeedSubscribeParams,
    FeedUnsubscribeParams,
    Subscribe,
)
from protocol.times import from_ms
from server.push.auth import FEED_WATCH, may_see_context, may_watch
from server.push.changes import snapshot_of
from server.push.endpoints import Call, Endpoint, Later, Result, at_once, encode, in_time
from server.push.methods.rooms import Rooms
from server.push.subscription import Subscription
from server.session.errors import SessionError

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    feed = _Feed(rooms)
    return (
        in_time("feed.get", FeedGetParams, feed.get),
        in_time("feed.refresh", NoParams, feed.refresh),
        in_time("feed.subscribe", FeedSubscribeParams, feed.subscribe),
        at_once("feed.unsubscribe", FeedUnsubscribeParams, feed.unsubscribe),
        at_once("feed.ack", FeedAckParams, feed.ack),
    )


class _Feed:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def get(self, call: Call, params: FeedGetParams) -> Result:
        feed = call.user if params.feed is None else UserId(params.feed)
        sub = call.connection.subscription(feed)
        if sub is not None:
            return Later(lambda: sub.fanout.snapshot_for(sub))
        session = await self._rooms.feeds.session(feed, None, own=feed == call.user)
        context = call.connection.params.context and may_see_context(call.claims, feed)
        return snapshot_of(session, context=context)

    async def refresh(self, call: Call, params: NoParams) -> Result:
        session = await self._rooms.feeds.session(call.user, None, own=True)
        await session.refresh()
        sub = call.connection.subscription(call.user)
        if sub is None:
            return {"cursor": session.history.current.cursor}
        # The frame with the new state goes first, whatever the interval; then the answer that names it.
        sub.due_at = 0.0
        return Later(lambda: encode({"cursor": sub.cursor or session.history.current.cursor}))

    async def subscribe(self, call: Call, params: FeedSubscribeParams) -> Result:
        followed: dict[str, Subscription | RpcError] = {}

        async def follow(wish: Subscribe) -> None:
            try:
                followed[wish.feed] = await self._follow(call, wish)
            except RpcError as error:
                followed[wish.feed] = error
            except SessionError:
                followed[wish.feed] = StorageUnavailableError("none")

        wishes = {wish.feed: wish for wish in params.feeds}
        async with create_task_group() as group:
            for wish in wishes.values():
                group.start_soon(follow, wish)
        return Later(lambda: encode({"feeds": [_outcome(feed, followed[feed]) for feed in wishes]}))

    def unsubscribe(self, call: Call, params: FeedUnsubscribeParams) -> Result:
        for feed in params.feeds:
            sub = call.connection.subscription(UserId(feed))
            if sub is not None:
                call.connection.unfollow(sub)
        return {}

    def ack(self, call: Call, params: FeedAckParams) -> Result:
        sub = call.connection.subscription(UserId(params.feed))
        if sub is not None and sub.acked != params.cursor:
            sub.acked = params.cursor
            self._note_age(sub, params.cursor)
        return {}

    async def _follow(self, call: Call, wish: Subscribe) -> Subscription:
        feeds, connection = self._rooms.feeds, call.connection
        feed = UserId(wish.feed)
        if not may_watch(call.claims, feed):
            raise Forbidden(FEED_WATCH)
        session = await feeds.session(feed, wish.since, own=feed == call.user)
        interval_s = connection.params.min_interval_s
        if wish.min_interval_ms is not None:
            interval_s = from_ms(wish.min_interval_ms)
        maximum = self._rooms.hub.options.max_subscriptions
        others = [sub for sub in connection.subs if sub.feed != connection.user]
        if len(others) >= maximum and feed != call.user and connection.subscription(feed) is None:
            self._rooms.hub.counters.limit("subscriptions")
            raise LimitReached("subscriptions", maximum)
        # What was allowed when the request came may have been taken back while the session was made.
        if connection.is_closed or not may_watch(connection.bearer.claims, feed):
            raise Forbidden(FEED_WATCH)
        return feeds.follow(connection, session, wish.since, interval_s)

    def _note_age(self, sub: Subscription, text: str) -> None:
        cursor = Cursor.decode(sub.feed, text)
        session = sub.fanout.session
        if cursor is None or cursor.epoch != session.epoch:
            return
        revision = session.history.since(cursor.revision)
        if revision is not None:
            age_s = self._rooms.hub.clock.monotonic() - revision.mono
            self._rooms.hub.counters.acked_age.record(max(0.0, age_s))


def _outcome(feed: str, followed: Subscription | RpcError) -> dict[str, object]:
    if isinstance(followed, RpcError):
        return {"feed": feed, "error": followed.wire()}
    return {"feed": feed, "cursor": followed.cursor or followed.fanout.session.history.current.cursor}
