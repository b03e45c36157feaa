"""From an upgrade request to a connection with its first state: authenticated, admitted, attached.

Where the user's session is live, all of that is one step and one write: 101, welcome, first state. Else the
101 goes out at once, and the rest follows when the session is there.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Final
from uuid import uuid4

import structlog

from protocol.closing import CloseCode
from server.engine.tasks import TaskScope
from server.push import lifetime
from server.push.admission import Admission, Readiness
from server.push.bearer import Bearer
from server.push.changes import read_cursor
from server.push.connection import Connection
from server.push.door import Upgrade
from server.push.feeds import Feeds
from server.push.handshake import Offer, Refusal
from server.push.http1 import problem_response
from server.push.hub import Hub
from server.push.inbound import FrameParser
from server.push.registry import Registry
from server.push.welcome import Welcome
from server.session.errors import SessionError, SessionRemoved, SessionsClosed
from server.session.user_session import UserSession
from server.tokens.claims import Claims
from server.tokens.verifier import UnknownKey

__all__ = ["Entrance"]

# A client without a session is told to come back after this: the store does not answer, or there is no room.
_RETRY_S: Final = 2.0

_log = structlog.stdlib.get_logger(__name__)


class Entrance:
    """Lets clients in, one by one, without waiting where there is nothing to wait for."""

    def __init__(
        self, hub: Hub, registry: Registry, feeds: Feeds, admission: Admission, tasks: TaskScope
    ) -> None:
        self.leave_at = 0.0
        """While draining: when (monotonic) the last of those who come in now are to leave."""
        self._hub = hub
        self._registry = registry
        self._feeds = feeds
        self._admission = admission
        self._tasks = tasks
        self._welcome = Welcome(hub)
        self._numbers = count(1)

    def upgrade(self, upgrade: Upgrade) -> None:
        """Lets the client in, or refuses it; where its token's key is not known, after a look at the issuer's
        keys."""
        refusal = self._admission.at_the_door()
        if refusal is not None:
            self._refuse(upgrade, refusal)
            return
        try:
            claims = self._admission.authenticate(upgrade.offer)
        except UnknownKey:
            assert upgrade.offer is not None
            upgrade.transport.pause_reading()
            self._tasks.start(self._upgrade_later, upgrade, upgrade.offer)
            return
        self._admit(upgrade, claims)

    async def _upgrade_later(self, upgrade: Upgrade, offer: Offer) -> None:
        claims = await self._admission.authenticate_anew(offer)
        if not upgrade.transport.is_closing():
            self._admit(upgrade, claims)

    def _admit(self, upgrade: Upgrade, claims: Claims | Refusal) -> None:
        if isinstance(claims, Refusal):
            self._refuse(upgrade, claims)
            return
        replaced = [
            connection
            for connection in self._registry.of(claims.user)
            if connection.client is not None and connection.client == upgrade.wish.client
        ]
        refusal = self._admission.admit(claims, upgrade.address, replaces=bool(replaced))
        if refusal is not None:
            self._refuse(upgrade, refusal)
            return
        for connection in replaced:
            connection.close(CloseCode.REPLACED, "a newer connection of this client")
        self._enter(upgrade, claims)

    def _enter(self, upgrade: Upgrade, claims: Claims) -> None:
        hub = self._hub
        upgrade.greeting.leave()
        now = hub.clock.now().timestamp()
        connection = Connection(
            hub,
            upgrade.transport,
            Bearer(claims, leeway_s=hub.leeway_s, now=now, fraction=hub.draw()),
            upgrade.wish,
            number=next(self._numbers),
            deflate=upgrade.deflate,
            address=upgrade.address,
        )
        hub.counters.accepted += 1
        self._registry.add(connection)
        if not connection.params.own:
            self._open(connection, upgrade.response, upgrade.early)
            return
        since = upgrade.wish.since
        session = self._feeds.warm(connection.user, since)
        if session is not None:
            self._feeds.follow(connection, session, since, connection.params.min_interval_s)
            self._open(connection, upgrade.response, upgrade.early)
            return
        connection.hold(upgrade.early)
        connection.write_now(upgrade.response)
        self._feeds.prepare(connection.user, partial(self._prepared, connection, since))

    def _open(self, connection: Connection, before: bytes, early: bytes) -> None:
        if early:
            connection.hold(early)
        connection.open(before, self._welcome.frame(connection))
        if connection.is_closed:
            return
        options, now = self._hub.options, self._hub.clock.monotonic()
        if options.max_age_s:
            # Spread, so that a restart's storm does not come back as one.
            connection.life.age_at = now + options.max_age_s * (0.9 + 0.2 * self._hub.draw())
            self._hub.sweeper.watch(connection, connection.life.age_at)
        if self._admission.readiness is Readiness.DRAINING:
            lifetime.leave_soon(connection, max(0.0, self.leave_at - now) * self._hub.draw())

    # A session that is not live yet, or has to read its rows first

    def _prepared(self, connection: Connection, since: str | None, found: UserSession | SessionError) -> None:
        if connection.is_closed:
            return
        if isinstance(found, SessionError):
            self._turn_away(connection, found)
            return
        try:
            session = self._feeds.warm(connection.user, since)
            if session is None:  # it has ended meanwhile, or does not show yet what the client has seen
                self._tasks.start(self._attach, connection, since, name="attach")
                return
            self._feeds.follow(connection, session, since, connection.params.min_interval_s)
            self._open(connection, b"", b"")
        except Exception:  # nobody else may suffer from it
            self._give_up(connection)

    def _turn_away(self, connection: Connection, problem: SessionError) -> None:
        if isinstance(problem, SessionsClosed):
            connection.close(CloseCode.GOING_AWAY)
        else:
            retry_s = _RETRY_S * (0.5 + self._hub.draw())
            connection.close(CloseCode.OVERLOAD, lifetime.retry_reason_s(retry_s))

    def _give_up(self, connection: Connection) -> None:
        """Call it only while handling what went wrong."""
        _log.exception("attach_failed", error_id=uuid4().hex)
        connection.close(CloseCode.INTERNAL)

    async def _attach(self, connection: Connection, since: str | None) -> None:
        try:
            await self._attach_within(connection, since)
        except SessionError as problem:
            self._turn_away(connection, problem)
        except Exception:  # the top of a task
            self._give_up(connection)

    async def _attach_within(self, connection: Connection, since: str | None) -> None:
        while not connection.is_closed:
            session = await self._feeds.session(connection.user, since, own=True)
            if connection.is_closed:
                return
            try:
                sub = self._feeds.follow(connection, session, since, connection.params.min_interval_s)
            except SessionRemoved:
                continue
            if since is not None and self._is_waiting_wise(session, since):
                await session.answered(self._hub.options.resume_wait_s)
                if not connection.is_closed:
                    sub.fanout.resume(sub, since)
            if not connection.is_closed:
                self._open(connection, b"", b"")
            return

    def _is_waiting_wise(self, session: UserSession, since: str) -> bool:
        cursor = read_cursor(session.user, since)
        return cursor is not None and self._feeds.is_waiting_wise(session, cursor)

    # Refusals

    def _refuse(self, upgrade: Upgrade, refusal: Refusal) -> None:
        """As a status where the client can see one, as a close code where it cannot."""
        refused = self._hub.counters.refused
        refused[refusal.code] = refused.get(refusal.code, 0) + 1
        if upgrade.offer is None or not upgrade.offer.by_subprotocol:
            upgrade.greeting.refuse(problem_response(refusal.status, refusal.text, refusal.headers))
            return
        upgrade.greeting.leave()
        parser = FrameParser(deflate=upgrade.deflate)
        upgrade.transport.write(upgrade.response + parser.close(refusal.code, refusal.reason))
        self._registry.say_farewell(upgrade.transport, parser)
