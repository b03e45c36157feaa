"""What happens to a connection by itself, when its time has come: heartbeats, expiry, drain, stalls.

All of it is looked at by the sweeper, in one place and one order; no connection has a timer of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, assert_never

from protocol.closing import CloseCode, retry_reason
from protocol.encoding import notification
from protocol.ids import UserId
from protocol.times import to_ms, to_wire
from server.push.bearer import Standing
from server.push.frames import PING_FRAME, text_frame
from server.push.limits import TokenBucket
from server.push.line import LineCheck
from server.session.listeners import CloseReason

if TYPE_CHECKING:
    from server.push.connection import Connection
    from server.push.hub import Hub

__all__ = [
    "Lifetime",
    "ends_once_answered",
    "enter_background",
    "feed_closed",
    "leave_soon",
    "retry_reason_s",
    "return_to_foreground",
    "sweep",
]

# However far away everything is, clocks are looked at this often: the wall clock may be set.
_LOOK_S: Final = 60.0


class Lifetime:
    """The moments (monotonic seconds) that a connection's life is made of, and its count of frames."""

    __slots__ = ("_frames", "age_at", "background_until", "leave_at", "stats_at", "stats_every_s")

    def __init__(self) -> None:
        self.background_until: float | None = None
        """Until when a connection in the background is kept; None in the foreground."""
        self.leave_at: float | None = None
        """When it will be closed with 1001, of which it has been told."""
        self.age_at: float | None = None
        """When it has become too old and is told to leave soon."""
        self.stats_at: float | None = None
        """When the next `stats.update` is due, for those who asked for it."""
        self.stats_every_s = 0.0
        self._frames: TokenBucket | None = None

    def take_frames(self, hub: Hub, count: int) -> float:
        """0, or in how many seconds so many frames would be allowed."""
        now = hub.clock.monotonic()
        if self._frames is None or self._frames.is_full(now):
            self._frames = TokenBucket(hub.options.frames_per_s, hub.options.frame_burst, now)
        return self._frames.take(now, count)

    def forget_frames(self, now: float) -> None:
        """Lets the count go where it says nothing any more."""
        if self._frames is not None and self._frames.is_full(now):
            self._frames = None


def retry_reason_s(seconds: float) -> str:
    """The close reason that says when to come back."""
    return retry_reason(math.ceil(seconds * 1000))


def sweep(connection: Connection, now: float) -> float | None:
    """Does what is due; returns when to look again, None once the connection has closed."""
    for step in (_token, _departure, _background, _line, _stats):
        step(connection, now)
        if connection.is_closed:
            return None
    connection.drop_idle_parts(now)
    return min(_next_moments(connection, now))


def leave_soon(connection: Connection, in_s: float) -> None:
    """Tells the client to reconnect, and closes with 1001 after that time. The first word holds."""
    if connection.life.leave_at is None and not connection.is_closed:
        connection.life.leave_at = connection.hub.clock.monotonic() + in_s
        connection.notify("server.draining", {"reconnectInMs": to_ms(in_s)})
        connection.hub.sweeper.watch(connection, connection.life.leave_at)


def ends_once_answered(connection: Connection, now: float) -> bool:
    """Whether the connection's time is over, and only its running requests keep it."""
    leave_at = connection.life.leave_at
    if leave_at is not None and now >= leave_at:
        return True
    return connection.hub.clock.now().timestamp() >= connection.bearer.ends_at


def enter_background(connection: Connection, keep_s: float) -> None:
    """Pushes and pings stop; it does not count as listening; after `keep_s` it is closed."""
    until = connection.hub.clock.monotonic() + keep_s
    connection.life.background_until = until
    connection.hub.sweeper.watch(connection, until)
    for sub in connection.subs:
        sub.fanout.set_listening(sub, listens=False)
    connection.refresh()


def return_to_foreground(connection: Connection) -> None:
    """The answer goes first, then one change from what was sent last, even where nothing has changed."""
    if connection.life.background_until is None:
        return
    connection.life.background_until = None
    now = connection.hub.clock.monotonic()
    connection.line.heard = now
    connection.answer_first()
    for sub in connection.subs:
        sub.fanout.set_listening(sub, listens=True)
        if sub.hello is None:
            sub.hello = connection.hub.clock.now()
    connection.changed()
    connection.hub.sweeper.watch(connection, now + connection.line.heartbeat_s)


def feed_closed(connection: Connection, feed: UserId, reason: CloseReason) -> None:
    """The session of a followed feed has ended."""
    match reason:
        case "gone" if feed == connection.user:
            # The user was erased: whoever came back with this token would be made anew.
            connection.close(CloseCode.REVOKED, "gone")
        case "gone":
            connection.notify("feed.closed", {"feed": feed, "reason": "gone"}, kind=f"feed.closed {feed}")
        case "removed":
            connection.close(CloseCode.RESTART)
        case "shutdown":
            connection.close(CloseCode.GOING_AWAY)
        case _:
            assert_never(reason)


def _token(connection: Connection, now: float) -> None:
    hub, bearer = connection.hub, connection.bearer
    wall = hub.clock.now().timestamp()
    match bearer.standing(wall, hub.options.expiry_grace_s):
        case Standing.OVER:
            connection.close(CloseCode.UNAUTHENTICATED, "the token has expired")
        case Standing.EXPIRED if not connection.running:
            connection.close(CloseCode.UNAUTHENTICATED, "the token has expired")
        case Standing.ENDING:
            bearer.told = True
            left_s = max(0.0, bearer.claims.exp.timestamp() - wall)
            connection.notify("connection.expiring", {"inMs": to_ms(left_s)})
        case _:
            pass


def _departure(connection: Connection, now: float) -> None:
    life = connection.life
    if life.leave_at is not None and now >= life.leave_at:
        # Whoever has asked for something is told how it went; but nobody stays by asking on and on.
        if not connection.running or now >= _leave_by(connection, life.leave_at):
            connection.close(CloseCode.GOING_AWAY)
    elif life.age_at is not None and now >= life.age_at:
        life.age_at = None
        leave_soon(connection, connection.hub.draw() * connection.hub.options.replace_over_s)


def _leave_by(connection: Connection, leave_at: float) -> float:
    return leave_at + connection.hub.options.request_timeout_s


def _background(connection: Connection, now: float) -> None:
    until = connection.life.background_until
    if until is not None and now >= until:
        connection.close(CloseCode.SILENT, "the time in the background is over")


def _line(connection: Connection, now: float) -> None:
    options = connection.hub.options
    buffered = connection.transport.get_write_buffer_size()
    check, _ = connection.line.check(now, options.heartbeat_grace_s, options.stall_s, buffered)
    match check:
        case LineCheck.STUCK:
            connection.hub.counters.stuck += 1
            connection.hub.counters.limit("stall_s")
            connection.abort(CloseCode.SILENT)
        case _ if connection.has_waited_for_message(now) >= options.message_timeout_s:
            connection.close(CloseCode.SILENT, "a message took too long")
        case LineCheck.SILENT if connection.life.background_until is None:
            connection.close(CloseCode.SILENT, "nothing was heard from the client")
        case LineCheck.PING if connection.life.background_until is None:
            connection.line.ping(now)
            connection.write_now(PING_FRAME + _beat(connection) if connection.params.beat else PING_FRAME)
        case _:
            pass


def _beat(connection: Connection) -> bytes:
    params: dict[str, object] = {"at": to_wire(connection.hub.clock.now())}
    if connection.hub.degraded:
        params["degraded"] = connection.hub.degraded
    return text_frame(notification("connection.beat", params))


def _stats(connection: Connection, now: float) -> None:
    life = connection.life
    if life.stats_at is not None and now >= life.stats_at:
        life.stats_at = now + life.stats_every_s
        if connection.can_push:
            connection.notify("stats.update", connection.hub.members.figures())


def _next_moments(connection: Connection, now: float) -> list[float]:
    hub, life = connection.hub, connection.life
    wall = hub.clock.now().timestamp()
    buffered = connection.transport.get_write_buffer_size()
    _, line_at = connection.line.check(now, hub.options.heartbeat_grace_s, hub.options.stall_s, buffered)
    token_in_s = connection.bearer.next_at(wall, hub.options.expiry_grace_s) - wall
    moments = [now + _LOOK_S, now + token_in_s]
    if life.background_until is None or not connection.writable:
        moments.append(line_at)
    leave_at = life.leave_at
    if leave_at is not None and now >= leave_at:
        leave_at = _leave_by(connection, leave_at)
    moments += [at for at in (leave_at, life.age_at, life.background_until, life.stats_at) if at]
    return moments
