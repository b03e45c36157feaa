"""The push side as one thing: it listens, lets clients in, and knows when it is done.

Everything runs in the task group that `Gateway.open` makes; at the end of that block nothing of it is left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final

import structlog
from anyio import create_task_group, sleep_forever
from anyio.abc import TaskGroup

from protocol.closing import CloseCode
from protocol.ids import ReplicaId, UserId
from protocol.times import to_wire
from server.engine.clock import Clock, expire_after
from server.engine.tasks import TaskScope
from server.http.types import HttpHandler, HttpRequest, HttpResponse
from server.push.admission import Admission, Readiness
from server.push.auth import ADMIN
from server.push.counters import PushStatistics
from server.push.dispatch import Dispatcher
from server.push.door import Greeted, Upgrade
from server.push.drain import drain_span_s, send_away
from server.push.entrance import Entrance
from server.push.feeds import Feeds
from server.push.figures import push_statistics
from server.push.hub import Hub
from server.push.inspection import inspect_user
from server.push.listening import Listener, listen
from server.push.live_figures import LiveFigures, readable
from server.push.methods import all_endpoints
from server.push.methods.rooms import Alone, Replicas, Rooms
from server.push.options import PushOptions
from server.push.registry import Registry
from server.session.actions import Actions
from server.session.items import ItemWrites
from server.session.manager import SessionManager
from server.session.patches import SourceWrites
from server.session.providers import ProviderWrites
from server.session.users import UserWrites
from server.tokens.verifier import TokenVerifier

__all__ = ["Gateway", "GatewaySetup"]

# How long those who are still there at the very end may take to hear that it is the end.
_LAST_WORDS_S: Final = 1.0

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySetup:
    """What a gateway is made with."""

    manager: SessionManager
    verifier: TokenVerifier
    clock: Clock
    replica: ReplicaId
    http_handler: HttpHandler
    """Answers what is no upgrade."""
    options: PushOptions = field(default_factory=PushOptions)
    replicas: Replicas = field(default_factory=Alone)
    """The way to ask the other replicas."""
    figures: Callable[[], Mapping[str, object]] = dict
    """What `stats.update` says of this replica alone (the state of its bus)."""
    gauges: Callable[[], Mapping[str, float]] = dict
    """Numbers of this process that can be added to those of others (its memory)."""
    rng: Random = field(default_factory=Random)


class Gateway:
    """The connections of this replica. Starts out not ready: see `set_ready`."""

    def __init__(self, setup: GatewaySetup, group: TaskGroup) -> None:
        """Use `open`."""
        self._setup = setup
        self._tasks = TaskScope(group)
        self.hub = hub = Hub(
            options=setup.options,
            clock=setup.clock,
            replica=setup.replica,
            leeway_s=setup.verifier.options.leeway_s,
            draw=setup.rng.random,
        )
        self.feeds = Feeds(setup.manager, hub)
        self._live = LiveFigures(hub, self._gauges)
        self.registry = Registry(hub, on_fanout_left=self.feeds.left, figures=self._figures)
        self._admission = Admission(hub, self.registry, setup.verifier, setup.manager)
        self._entrance = Entrance(hub, self.registry, self.feeds, self._admission, self._tasks)
        self._greetings: set[Greeted] = set()
        self._drained = False
        hub.members = self.registry
        self._dispatcher = Dispatcher(hub, self._tasks, all_endpoints(self._rooms()))
        hub.requests = self._dispatcher
        setup.manager.operator.watch_revocations(self._revoked)

    @classmethod
    @asynccontextmanager
    async def open(cls, setup: GatewaySetup) -> AsyncGenerator[Gateway]:
        """A running gateway, listening to nothing yet. At the end of the block every connection is closed
        with 1001, and requests that write have ended."""
        async with create_task_group() as group:
            gateway = cls(setup, group)
            try:
                yield gateway
            finally:
                # The group, not only this wait: writes end in tasks of it, whoever is cancelled outside.
                group.cancel_scope.shield = True
                await gateway._aclose()
                group.cancel_scope.cancel()

    @asynccontextmanager
    async def listen(self, listener: Listener) -> AsyncGenerator[tuple[tuple[str, int], ...]]:
        """Accepts sockets for as long as the block runs; gives what is bound. Raises OSError."""
        async with listen(self, listener) as addresses:
            yield addresses

    # State

    @property
    def ready(self) -> bool:
        """Whether `/readyz` says so: started, and not draining."""
        return self._admission.readiness is Readiness.READY

    def set_ready(self) -> None:
        """Everything behind the gateway has started: clients are let in."""
        if self._admission.readiness is Readiness.STARTING:
            self._admission.readiness = Readiness.READY

    def set_overloaded(self, overloaded: bool) -> None:
        """While overloaded (memory past its mark), new connections are put off with 503."""
        self._admission.overloaded = overloaded

    def set_degraded(self, names: tuple[str, ...], since: datetime | None) -> None:
        """What the server is without, by name: said in beats, and to operators at once."""
        if names == self.hub.degraded:
            return
        self.hub.degraded = names
        status: dict[str, object] = {"degraded": names}
        if since is not None:
            status["since"] = to_wire(since)
        for connection in self.registry:
            if ADMIN in connection.bearer.claims.scopes:
                connection.notify("server.status", status)

    def statistics(self) -> PushStatistics:
        """The push side as it is now."""
        return push_statistics(
            self.hub, self.registry, self.feeds, self._admission, handshakes=len(self._greetings)
        )

    def figures(self) -> Mapping[str, float]:
        """This replica's numbers, in a form that can be added to those of the others."""
        return self._live.numbers()

    def inspect(self, user: UserId) -> Mapping[str, object]:
        """What this replica knows of one user, as the wire's ReplicaView."""
        return inspect_user(user, self.hub, self.registry, self._setup.manager)

    # The end

    async def drain(self) -> None:
        """Sends everybody away in order; returns when nobody is left, at the latest after `drain_s`.

        Not ready from now on. Upgrades are still served for `drain_delay_s` (and told to leave), then put
        off; whoever listens should go on listening meanwhile.
        """
        options = self._setup.options
        self._admission.readiness = Readiness.DRAINING
        span_s = drain_span_s(options, self.registry.count)
        self._entrance.leave_at = self.hub.clock.monotonic() + options.drain_delay_s + span_s
        send_away(self.registry, after_s=options.drain_delay_s, span_s=span_s, draw=self.hub.draw())
        _log.info("draining", connections=self.registry.count, span_s=round(span_s, 3))
        with expire_after(self._setup.clock, options.drain_s):
            if options.drain_delay_s:
                await self._wait(options.drain_delay_s)
            self._admission.readiness = Readiness.CLOSED
            await self.registry.wait_empty()
            await self._dispatcher.wait_written()
        self._admission.readiness = Readiness.CLOSED
        self._drained = True

    # The door (of greetings)

    def arrived(self, greeting: Greeted) -> bool:
        """A socket was accepted. False: there are far too many."""
        # Beside the connections themselves: who is refused for want of room is still told so.
        maximum = self._setup.options.max_connections
        if len(self._greetings) + self.registry.sockets >= maximum + maximum // 4 + 64:
            self.hub.counters.limit("max_connections")
            return False
        self._greetings.add(greeting)
        return True

    def departed(self, greeting: Greeted) -> None:
        """A greeting's socket is gone, or has become a connection's."""
        self._greetings.discard(greeting)

    def upgrade(self, upgrade: Upgrade) -> None:
        """Lets the client in, or refuses it."""
        self._entrance.upgrade(upgrade)

    def start(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Runs a task whose end nobody waits for."""
        self._tasks.start(fn)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Answers what is no upgrade."""
        try:
            with expire_after(self._setup.clock, self._setup.options.request_timeout_s):
                return await self._setup.http_handler(request)
        except Exception:  # the top of a request
            _log.exception("http_request_failed", path=request.path)
            return HttpResponse(status=500, body=b"Something went wrong.\n")
        return HttpResponse(status=503, body=b"That took too long.\n")

    # Parts

    def _rooms(self) -> Rooms:
        setup = self._setup
        return Rooms(
            hub=self.hub,
            feeds=self.feeds,
            registry=self.registry,
            manager=setup.manager,
            sources=SourceWrites(setup.manager),
            items=ItemWrites(setup.manager, self.feeds.reach),
            actions=Actions(setup.manager, setup.replica),
            users=UserWrites(setup.manager),
            providers=ProviderWrites(setup.manager),
            verifier=setup.verifier,
            replicas=setup.replicas,
        )

    def _figures(self) -> Mapping[str, object]:
        """The params of a `stats.update`: cheap, since it is made every second for each who asked."""
        setup, own = self._setup, self._live.numbers()
        return {
            "at": to_wire(setup.clock.now()),
            "degraded": self.hub.degraded,
            **readable(setup.replicas.total(own)),
            "replicaList": [
                {"replica": replica, **readable(numbers)}
                for replica, numbers in ((setup.replica, own), *setup.replicas.each())
            ],
            "topTalkers": self._live.talkers(),
            **setup.figures(),
        }

    def _gauges(self) -> Mapping[str, float]:
        return {
            "connections": self.registry.count,
            "users": self.registry.users,
            "feeds": len(self.feeds),
            "sessions": self._setup.manager.statistics().directory.sessions,
            **self._setup.gauges(),
        }

    def _revoked(self, user: UserId, issued_before: datetime) -> int:
        """Closes the user's connections whose tokens are older than that; how many."""
        revoked = [
            connection
            for connection in self.registry.of(user)
            if connection.bearer.claims.iat < issued_before
        ]
        for connection in revoked:
            connection.close(CloseCode.REVOKED, "revoked")
        return len(revoked)

    async def _wait(self, seconds: float) -> None:
        with expire_after(self._setup.clock, seconds):
            await sleep_forever()

    async def _aclose(self) -> None:
        self._admission.readiness = Readiness.CLOSED
        for connection in self.registry:
            connection.close(CloseCode.GOING_AWAY)
        with expire_after(self._setup.clock, _LAST_WORDS_S):
            await self.registry.wait_empty()
        self.registry.abort()
        if not self._drained:
            with expire_after(self._setup.clock, self._setup.options.request_timeout_s):
                await self._dispatcher.wait_written()
        for greeting in tuple(self._greetings):
            greeting.abort()
        await self._tasks.aclose()
        self.hub.sweeper.close()
        self.hub.pacer.close()
