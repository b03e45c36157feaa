"""One client: its subscriptions, its requests, and what is written to it, once a tick and in order.

While it is idle it has no task, no timer and no parser: what it needs now and then (`Inflow`, `Outbox`,
`Calls`) exists only then. What it is told is decided elsewhere: feed changes by `Fanout`, answers by the
dispatcher, everything that has its time by `lifetime`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from protocol.closing import CloseCode
from protocol.encoding import notification
from protocol.ids import ConnectionId, UserId
from server.push import lifetime
from server.push.frames import Message
from server.push.line import Line, Stop
from server.push.outbox import Outbox, Reply
from server.push.subscription import Subscription
from server.push.wire import Phase, Wire
from server.session.listeners import CloseReason

if TYPE_CHECKING:
    from server.push.bearer import Bearer
    from server.push.calls import Calls
    from server.push.hub import Hub
    from server.push.params import ConnectParams, Wish

__all__ = ["Connection"]

# How a connection ends whose client, or server, has said goodbye.
_IN_ORDER: Final = frozenset({CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS})
# What one write may hold beside feed changes; the rest follows when the kernel has taken this.
_WRITE_BYTES: Final = 64 * 1024


class Connection(Wire):
    """Everything runs on the loop's thread, and nothing waits."""

    __slots__ = (
        "address",
        "bearer",
        "calls",
        "can_push",
        "client",
        "connected_at",
        "life",
        "number",
        "params",
        "quick",
        "subs",
    )

    def __init__(
        self,
        hub: Hub,
        transport: asyncio.Transport,
        bearer: Bearer,
        wish: Wish,
        *,
        number: int,
        deflate: bool,
        address: str | None,
    ) -> None:
        line = Line(wish.params.heartbeat_s, hub.clock.monotonic(), hub.draw())
        super().__init__(hub, transport, deflate=deflate, line=line)
        self.bearer = bearer
        self.params: ConnectParams = wish.params
        self.client = wish.client
        self.number = number
        self.address = address
        """The client's own address, where a proxy named it or the listener is a public one."""
        self.connected_at = hub.clock.now()
        self.life = lifetime.Lifetime()
        self.subs: tuple[Subscription, ...] = ()
        self.calls: Calls | None = None
        self.can_push = False
        """Whether feed changes may be written now: open, writable, in the foreground."""
        self.quick = False
        """Whether a feed change is a single write: nothing waits beside it, and nothing delays it."""
        options = hub.options
        transport.set_write_buffer_limits(high=options.write_high_bytes, low=options.write_low_bytes)
        transport.set_protocol(self)

    @property
    def id(self) -> ConnectionId:
        """Its name in the welcome, in logs and in `user.inspect`."""
        return ConnectionId(f"{self.hub.replica}-{self.number:x}")

    @property
    def user(self) -> UserId:
        """Whose it is."""
        return self.bearer.claims.user

    @property
    def background(self) -> bool:
        """Whether the client has said that nobody looks."""
        return self.life.background_until is not None

    @property
    def wants_settings(self) -> bool:
        """Whether it is told when a source changes."""
        return self.params.settings and self.phase is Phase.OPEN

    @property
    def running(self) -> int:
        """Requests that run or wait for their turn."""
        return 0 if self.calls is None else self.calls.count

    def subscription(self, feed: UserId) -> Subscription | None:
        """The subscription to that feed, if there is one."""
        for sub in self.subs:
            if sub.feed == feed:
                return sub
        return None

    def open(self, before: bytes, welcome: bytes) -> None:
        """Writes the first words in one write: `before`, the welcome, the states that are owed. From here on
        messages are read and changes pushed."""
        assert self.phase is Phase.ATTACHING, self.phase
        now = self.hub.clock.monotonic()
        self.phase = Phase.OPEN
        self.line.go_on(Stop.NOT_READING, now)
        self.line.heard = self.line.sent = now
        parts = [before, welcome]
        parts += self._take_changes(now)
        self.refresh()
        self.write(b"".join(parts))
        again = self.sweep(now)
        if again is not None:
            self.hub.sweeper.watch(self, again)
            self.go_on()

    # Subscriptions

    def follow(self, sub: Subscription) -> None:
        """Adds a subscription. Its first frame is written by the tick, or by `open`."""
        self.subs = (*self.subs, sub)
        sub.fanout.set_listening(sub, listens=not self.background)
        if self.phase is Phase.OPEN:
            self.changed()

    def unfollow(self, sub: Subscription) -> None:
        """Ends a subscription. Nothing of it is written any more."""
        self.subs = tuple([other for other in self.subs if other is not sub])
        sub.fanout.discard(sub)
        self.refresh()

    def feed_closed(self, sub: Subscription, reason: CloseReason) -> None:
        """The session of a followed feed has ended."""
        self.subs = tuple([other for other in self.subs if other is not sub])
        self.refresh()
        lifetime.feed_closed(self, sub.feed, reason)

    # What comes in

    @property
    def may_receive(self) -> bool:
        """Not too many requests run, and not too many replies wait to be written."""
        options = self.hub.options
        return (
            self.phase is Phase.OPEN
            and (self.calls is None or self.calls.count < options.max_concurrent_requests)
            and (self._outbox is None or self._outbox.has_room(options.max_waiting_replies))
        )

    def receive_text(self, payload: bytes) -> None:
        """A text message."""
        self.hub.counters.heard(self.user)
        self.hub.requests.receive(self, payload)

    def receive_broken(self) -> None:
        """A message that is not text."""
        self.hub.counters.heard(self.user)
        self.hub.requests.receive_binary(self)

    def count_frames(self, count: int) -> bool:
        """So many frames came in, of whatever kind."""
        wait_s = self.life.take_frames(self.hub, count)
        if wait_s:
            self.hub.counters.limit("frames_per_s")
            self.refuse(wait_s)
        return not wait_s

    # What goes out

    def reply(self, frame: Reply) -> None:
        """Answers a request. Without effect once the connection has closed."""
        if self.phase is Phase.OPEN:
            self.box().reply(frame)
            self.changed()

    def notify(self, method: str, params: object, *, kind: str | None = None) -> None:
        """A notification for this connection alone; of a kind, only the newest waits for a full socket."""
        if self.phase is Phase.OPEN:
            self.box().notice(kind or method, self.framed(notification(method, params)))
            self.changed()

    def push_changed(self, source_id: str, message: Message) -> None:
        """A `source.changed`: the newest of each source waits."""
        self.box().changed(source_id, message.frame(deflate=self.deflate))
        self.changed()

    def answer_first(self) -> None:
        """At the next write, replies go before feed changes."""
        self.box().answers_first = True

    def changed(self) -> None:
        """There may be something to write: the tick looks."""
        self.refresh()
        self.hub.tick.write(self)

    def flush(self, now: float) -> None:
        """One write of everything that is due."""
        if self.phase is not Phase.OPEN or not self.writable:
            return
        outbox = self._outbox
        parts = self._take_changes(now) if outbox is None else self._take_all(outbox, now)
        self.refresh()
        if parts:
            self.line.sent = now
            self.write(parts[0] if len(parts) == 1 else b"".join(parts))
        if outbox is not None and outbox.has_replies and self.writable:
            self.hub.tick.write(self)
        self.go_on()

    def write(self, data: bytes) -> None:
        """Everything that is written to an open connection goes through here, or through its cohort."""
        self.transport.write(data)
        for sub in self.subs:
            if sub.cohort is not None and self.transport.get_write_buffer_size():
                sub.fanout.part(sub)
                # Its cohort may be about to be told of a change, and will be without it.
                self.hub.tick.write(self)

    def write_change(self, frame: bytes, now: float) -> None:
        """Writes a feed change, and nothing beside it."""
        self.line.sent = now
        try:
            self.write(frame)
        except Exception:
            self.give_up()  # it is taken for sent already
            raise

    def refresh(self) -> None:
        """Brings `can_push` and `quick` up to date, and with them who is served among others."""
        self.can_push = self.phase is Phase.OPEN and self.writable and not self.background
        self.quick = (
            self.can_push
            and self._outbox is None
            and len(self.subs) == 1
            and self.subs[0].hello is None
            and not self.subs[0].interval_s
        )
        for sub in self.subs:
            if not self.quick:
                sub.fanout.part(sub)
            elif sub.cohort is None:
                sub.fanout.join(sub)

    # The end

    def refuse(self, wait_s: float) -> None:
        """Closes: too much of something, over and over."""
        self.close(CloseCode.LIMIT, lifetime.retry_reason_s(wait_s))

    def sweep(self, now: float) -> float | None:
        """What is due at `now`; see `lifetime`."""
        for sub in self.subs:
            self.line.sent = max(self.line.sent, sub.sent)
        return lifetime.sweep(self, now)

    def drop_idle_parts(self, now: float) -> None:
        """Lets go what is as good as new."""
        self.life.forget_frames(now)
        if self.calls is not None and self.calls.is_idle(now):
            self.calls = None

    def left(self, code: int, reason: str) -> None:
        """Leaves feeds and requests behind."""
        subs, self.subs = self.subs, ()
        for sub in subs:
            sub.fanout.discard(sub)
        if self.calls is not None:
            self.calls.connection_ended(in_order=code in _IN_ORDER)
            self.calls = None
        self.hub.members.left(self, code, reason)

    def _take_changes(self, now: float) -> list[bytes]:
        # In the background only what was asked for there: the first state of a new subscription.
        subs = [sub for sub in self.subs if sub.hello is not None] if self.background else self.subs
        frames = [sub.fanout.take(sub, now) for sub in subs]
        return [frame for frame in frames if frame is not None]

    def _take_all(self, outbox: Outbox, now: float) -> list[bytes]:
        """Notices; then replies, which may name a cursor, after the state it names; then source states."""
        parts: list[bytes] = []
        room = _WRITE_BYTES
        outbox.take_notices(parts)
        if outbox.answers_first:
            outbox.answers_first = False
            room = outbox.take_replies(parts, room)
        parts += self._take_changes(now)
        room = outbox.take_replies(parts, room)
        if room > 0 and not self.background:
            outbox.take_changed(parts)
        if outbox.is_empty:
            self._outbox = None
        return parts
