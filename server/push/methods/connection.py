"""`connection.*`: the life of one connection, as its client sees and steers it."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import InvalidToken
from protocol.messages.base import NoParams
from protocol.messages.connection import ConnectionBackgroundParams, ConnectionRenewParams
from protocol.times import from_ms, to_ms, to_wire
from server.push import lifetime
from server.push.auth import ADMIN, may_watch
from server.push.bearer import Bearer
from server.push.connection import Connection
from server.push.endpoints import Call, Endpoint, Result, at_once, in_time
from server.push.inspection import last_resume
from server.push.methods.rooms import Rooms
from server.push.subscription import Subscription
from server.tokens.claims import Claims, TokenProblem

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    connection = _Connection(rooms)
    return (
        in_time("connection.renew", ConnectionRenewParams, connection.renew),
        at_once("connection.info", NoParams, connection.info),
        at_once("connection.ping", NoParams, connection.ping),
        at_once("connection.background", ConnectionBackgroundParams, connection.background),
        at_once("connection.foreground", NoParams, connection.foreground),
    )


class _Connection:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def renew(self, call: Call, params: ConnectionRenewParams) -> Result:
        try:
            claims = await self._rooms.verifier.verify_fresh(params.token)
        except TokenProblem as problem:
            raise InvalidToken(problem.reason) from None
        if claims.user != call.user:
            raise InvalidToken("the token is another user's")
        if self._rooms.manager.revoked(claims.user, claims.iat):
            raise InvalidToken("the token was revoked")
        self._take_over(call.connection, claims)
        return {"expiresAt": to_wire(claims.exp)}

    def info(self, call: Call, params: NoParams) -> Result:
        connection, hub = call.connection, self._rooms.hub
        answer: dict[str, object] = {
            "user": connection.user,
            "scopes": sorted(connection.bearer.claims.scopes),
            "replica": hub.replica,
            "server": hub.options.server,
            "connectedAt": to_wire(connection.connected_at),
            "subscriptions": [_subscription(sub) for sub in connection.subs],
            "lag": {
                "behindMs": max([self._behind_ms(sub) for sub in connection.subs], default=0),
                "bufferedBytes": connection.transport.get_write_buffer_size(),
            },
        }
        if (resume := last_resume(connection)) is not None:
            answer["lastResume"] = resume
        return answer

    def ping(self, call: Call, params: NoParams) -> Result:
        return {"at": to_wire(self._rooms.hub.clock.now())}

    def background(self, call: Call, params: ConnectionBackgroundParams) -> Result:
        keep_s = min(from_ms(params.keep_ms), self._rooms.hub.options.max_background_s)
        lifetime.enter_background(call.connection, keep_s)
        return {}

    def foreground(self, call: Call, params: NoParams) -> Result:
        lifetime.return_to_foreground(call.connection)
        return {}

    def _take_over(self, connection: Connection, claims: Claims) -> None:
        """The new token's scopes replace the old one's: what it does not reach ends."""
        hub, feeds = self._rooms.hub, self._rooms.feeds
        now = hub.clock.now().timestamp()
        connection.bearer = Bearer(claims, leeway_s=hub.leeway_s, now=now, fraction=hub.draw())
        for sub in connection.subs:
            if may_watch(claims, sub.feed):
                sub.fanout.part(sub)
                sub.form = feeds.form(connection, sub.feed)
            else:
                connection.unfollow(sub)
                params = {"feed": sub.feed, "reason": "scope"}
                connection.notify("feed.closed", params, kind=f"feed.closed {sub.feed}")
        connection.changed()
        if ADMIN not in claims.scopes:
            connection.life.stats_at = None
        hub.sweeper.watch(connection, hub.clock.monotonic())

    def _behind_ms(self, sub: Subscription) -> int:
        history = sub.fanout.session.history
        number = history.current.number if sub.position is None else sub.position.number
        if number == history.current.number:
            return 0
        age_s = (self._rooms.hub.clock.now() - history.oldest_at_after(number)).total_seconds()
        return max(0, to_ms(age_s))


def _subscription(sub: Subscription) -> dict[str, object]:
    told: dict[str, object] = {"feed": sub.feed, "minIntervalMs": to_ms(sub.interval_s)}
    if sub.cursor is not None:
        told["cursor"] = sub.cursor
    if sub.acked is not None:
        told["acked"] = sub.acked
    return told
