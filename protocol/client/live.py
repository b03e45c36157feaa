"""The client as a whole: connects, follows, comes back, and knows at each moment how things stand."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Final

import anyio
import anyio.abc

from protocol.client.calls import Calls
from protocol.client.conversation import Conversation
from protocol.client.failures import (
    ClientError,
    ConnectionLost,
    FeedClosed,
    NotConnected,
    SignInRequired,
    Stopped,
)
from protocol.client.following import Following
from protocol.client.latest import Latest
from protocol.client.link import Link, LinkEnded, open_link
from protocol.client.options import Options, Token, feed_url
from protocol.client.tokens import TokenKeeper
from protocol.client.view import FeedReader, FeedView
from protocol.closing import CloseCode, NextStep
from protocol.errors import RpcError
from protocol.feed import FeedState, reading
from protocol.frozen import JsonObject, JsonValue
from protocol.messages.connection import ConnectionWelcome
from protocol.reconnect import End, ReconnectPolicy
from protocol.times import from_ms
from protocol.transport import HEARTBEAT_GRACE_MS

__all__ = ["LiveFeed", "Status"]

_log: Final = logging.getLogger("freya_push.client")


class Status(Enum):
    """How things stand. Only while `LIVE` is what is shown known to be current."""

    CONNECTING = "connecting"
    """Nothing to show yet."""
    LIVE = "live"
    STALE = "stale"
    """The last state is shown while the client comes back, or reads the feed anew."""
    STOPPED = "stopped"
    """It has given up, or was closed."""


class _Present:
    """What exists only while there is a connection."""

    def __init__(self, link: Link, conversation: Conversation, tasks: anyio.abc.TaskGroup) -> None:
        self.link = link
        self.conversation = conversation
        self.tasks = tasks
        self.dead_after_s = link.dead_after_s
        self._welcomed_at: float | None = None

    def welcomed(self, heartbeat_ms: int) -> None:
        """The server has said how often it shows itself; silence is measured by that."""
        self._welcomed_at = anyio.current_time()
        self.dead_after_s = self.link.dead_after_s = from_ms(heartbeat_ms + HEARTBEAT_GRACE_MS)

    def lived_s(self) -> float:
        """How long ago the welcome was; 0 before it."""
        return 0.0 if self._welcomed_at is None else anyio.current_time() - self._welcomed_at


class LiveFeed(Calls):
    """One user's feed, followed for as long as `connect` is open.

    Iterating over it gives the newest state whenever it has changed, and raises Stopped (or its kind
    SignInRequired) once the client has given up. Any number of tasks may read and call at once.
    """

    def __init__(self, url: str, token: Token, options: Options, tls: ssl.SSLContext | None) -> None:
        # A mistake in these is the caller's, and known at once.
        address = feed_url(url, options, None)
        if tls is not None and not address.startswith("wss:"):
            raise ValueError("a TLS context is for an address of wss: or https:")
        self._url = url
        self._tokens = TokenKeeper(token)
        self._options = options
        self._tls = tls
        self._policy = ReconnectPolicy(options.draw)
        self._following = Following(options.now, own=options.own)
        self._present: _Present | None = None
        # The conversation once it was welcomed; what callers wait for.
        self._open: Latest[Conversation | None] = Latest(None)
        self._welcome: ConnectionWelcome | None = None
        self._last_end: End | None = None
        self._failure: Stopped | None = None
        self._status = Latest(Status.CONNECTING)

    @property
    def status(self) -> Status:
        """How things stand now."""
        return self._status.value

    @property
    def state(self) -> FeedState | None:
        """The own feed's last state without what has expired; None before the first."""
        return self._following.own.state

    @property
    def own(self) -> FeedView:
        """The own feed."""
        return self._following.own

    @property
    def welcome(self) -> ConnectionWelcome | None:
        """What the server said at the start of the present connection, or of the last one."""
        return self._welcome

    @property
    def last_end(self) -> End | None:
        """How the last connection ended, or why none came to be."""
        return self._last_end

    def __aiter__(self) -> FeedReader:
        return aiter(self._following.own)

    async def wait_status(self, *wanted: Status) -> Status:
        """Waits until the status is one of these; at once where it is."""
        while self._status.value not in wanted:
            await self._status.wait_newer(self._status.version)
        return self._status.value

    async def wait_status_change(self, seen: Status) -> Status:
        """Waits until the status is not `seen`; at once where it isn't."""
        return await self.wait_status(*(status for status in Status if status is not seen))

    async def watch(self, feed: str, *, min_interval_ms: int | None = None) -> FeedView:
        """Follows another user's feed, also over reconnects; needs the scope `feed:watch`.

        One that is watched already is given at once. Raises FeedClosed where the server refuses it for good,
        else what `call` raises.
        """
        timeout_s = self._options.call_timeout_s
        # Known to the client only once it is connected: a welcome subscribes to all that is known by then.
        conversation = await self._connected("feed.subscribe", timeout_s)
        if (known := self._following.watched.get(feed)) is not None:
            return known.view
        watched = self._following.add(feed, min_interval_ms)
        try:
            await self._following.subscribe(conversation, [watched], timeout_s)
        except BaseException:
            self._following.end(feed, FeedClosed(feed, "not subscribed"))
            raise
        if watched.view.failure is not None:
            raise watched.view.failure.with_traceback(None)
        return watched.view

    async def unwatch(self, feed: str) -> None:
        """Stops following a feed; its readers raise FeedClosed. What is not watched is no mistake."""
        if feed in self._following.watched:
            self._following.end(feed, FeedClosed(feed, "watched no longer"))
            if self._open.value is not None:
                # Where that fails, a new connection does not subscribe to it again.
                with suppress(ClientError):
                    await self.call("feed.unsubscribe", {"feeds": [feed]})

    async def call(
        self, method: str, params: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> JsonValue:
        timeout_s = self._options.call_timeout_s if timeout_s is None else timeout_s
        deadline = anyio.current_time() + timeout_s
        conversation = await self._connected(method, timeout_s)
        return await conversation.request(method, params or {}, deadline - anyio.current_time())

    async def run(self) -> None:
        """Connects and comes back until it is stopped. Ends only so, or by being cancelled."""
        while True:
            try:
                end, lived_s = await self._live_once()
            except SignInRequired as none_left:
                return self.stop(none_left)
            self._last_end = end
            decision = self._policy.ended(end, lived_s)
            match decision.step:
                case NextStep.RECONNECT:
                    pass
                case NextStep.NEW_TOKEN:
                    self._tokens.drop()
                case NextStep.SIGN_IN:
                    return self.stop(SignInRequired(end.code, end.reason))
                case NextStep.STOP:
                    return self.stop(Stopped(end.code, end.reason))
            await anyio.sleep(decision.delay_s)

    def stop(self, failure: Stopped) -> None:
        """Nothing more will come: readers and callers raise `failure`. The first one counts."""
        if self._failure is None:
            self._failure = failure
            self._following.end_all(failure)
            self._open.set(None)
            self._judge()

    async def _live_once(self) -> tuple[End, float]:
        """One connection: how it ended, and how long it lived after its welcome.

        Raises SignInRequired where there is no token left to try.
        """
        try:
            token = await self._tokens.get()
        except SignInRequired:
            raise
        except Exception:
            # The callback is the caller's: whatever went wrong in it, there is no token this time.
            _log.exception("no token could be had")
            return End(CloseCode.ABNORMAL, "no token could be had"), 0.0
        url = feed_url(self._url, self._options, self._following.own.cursor)
        try:
            link = await open_link(url, token, self._options, self._tls)
        except LinkEnded as refused:
            return refused.end, 0.0
        return await self._converse(link)

    async def _converse(self, link: Link) -> tuple[End, float]:
        conversation = Conversation(link, self._notified, self._answered)
        end, lived_s = End(CloseCode.ABNORMAL), 0.0
        async with anyio.create_task_group() as tasks:
            present = self._present = _Present(link, conversation, tasks)
            try:
                self._last_end = end = await conversation.run()
                lived_s = present.lived_s()
            finally:
                tasks.cancel_scope.cancel()
                self._present = None
                self._open.set(None)
                self._following.disconnected()
                self._judge()
                # Of a server that has fallen silent, requests are asked again elsewhere: not to be done late.
                await link.aclose(CloseCode.SILENT if end.code == CloseCode.SILENT else CloseCode.NORMAL)
        return end, lived_s

    def _notified(self, method: str, params: JsonObject) -> None:
        """What the server says unasked. Raises ValueError for what is not as the protocol has it."""
        present = self._present
        assert present is not None, "a notification without a connection"
        match method:
            case "connection.welcome":
                self._welcomed(present, params)
            case "feed.snapshot":
                self._following.take_snapshot(params)
            case "feed.delta":
                if broken := self._following.take_delta(params):
                    present.tasks.start_soon(self._resync, present, broken)
            case "feed.closed":
                feed, reason = reading.text(params, "feed"), reading.text(params, "reason")
                self._following.end(feed, FeedClosed(feed, reason))
            case "connection.expiring" if self._tokens.can_ask:
                present.tasks.start_soon(self._renew, present)
            case _:
                pass
        self._judge()
        self._pass_on(method, params)

    def _answered(self, method: str, result: JsonValue) -> None:
        """What the answer to a request means for the client itself, whoever asked."""
        present = self._present
        assert present is not None, "an answer without a connection"
        if method == "feed.get":
            self._following.take_snapshot(reading.as_object(result))
            self._judge()
        elif method == "connection.background":
            present.link.dead_after_s = None  # from now on the server is silent on purpose
        elif method == "connection.foreground":
            present.link.dead_after_s = present.dead_after_s

    def _welcomed(self, present: _Present, params: JsonObject) -> None:
        welcome = self._welcome = ConnectionWelcome.read(params)
        present.welcomed(welcome.heartbeat_ms)
        present.conversation.max_message_bytes = welcome.limits.max_message_bytes
        self._policy.welcomed()
        self._following.own.rename(welcome.user)
        if self._following.watched:
            present.tasks.start_soon(self._resubscribe, present)
        if welcome.ack_every_ms is not None:
            every_s = from_ms(welcome.ack_every_ms)
            present.tasks.start_soon(self._following.acknowledge, present.conversation, every_s)
        self._open.set(present.conversation)

    async def _resync(self, present: _Present, view: FeedView) -> None:
        if not await self._following.resync(present.conversation, view, self._options.call_timeout_s):
            present.link.abort()

    async def _resubscribe(self, present: _Present) -> None:
        watched = list(self._following.watched.values())
        try:
            await self._following.subscribe(present.conversation, watched, self._options.call_timeout_s)
        except RpcError as refused:
            for one in watched:
                feed = one.view.name or ""
                self._following.end(feed, FeedClosed(feed, refused.message, refused))
        except ConnectionLost:
            pass  # the next connection subscribes again
        except ClientError:
            present.link.abort()

    async def _renew(self, present: _Present) -> None:
        try:
            token = await self._tokens.ask()
            await present.conversation.request(
                "connection.renew", {"token": token}, self._options.call_timeout_s
            )
        except (RpcError, ClientError):
            return  # the connection ends with the old token, and the next one asks for another
        except Exception:
            # As where a connection begins: the callback is the caller's.
            _log.exception("no token could be had to renew with")
            return
        self._tokens.hold(token)

    async def _connected(self, method: str, timeout_s: float) -> Conversation:
        with anyio.move_on_after(timeout_s):
            while True:
                if self._failure is not None:
                    raise self._failure.with_traceback(None)
                if self._open.value is not None:
                    return self._open.value
                await self._open.wait_newer(self._open.version)
        raise NotConnected(method, repeatable=True)

    def _pass_on(self, method: str, params: JsonObject) -> None:
        if self._options.on_notification is not None:
            try:
                self._options.on_notification(method, params)
            except Exception:
                # The callback is the caller's; the feed goes on whatever it does.
                _log.exception("on_notification failed for %s", method)

    def _judge(self) -> None:
        """Draws the status from everything it depends on."""
        own = self._following.own
        if self._failure is not None:
            status = Status.STOPPED
        elif self._open.value is not None and (own.is_synced or not self._options.own):
            status = Status.LIVE
        elif own.cursor is not None or (self._welcome is not None and not self._options.own):
            status = Status.STALE
        else:
            status = Status.CONNECTING
        if status is not self._status.value:
            self._status.set(status)
