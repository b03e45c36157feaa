"""A random walk through everything that can happen to a session and its connections, beside the oracle."""

from __future__ import annotations

from random import Random
from typing import Final

from protocol.feed import FeedState
from protocol.frozen import JsonValue
from protocol.ids import UserId
from server.session.listeners import CloseReason
from server.session.user_session import UserSession
from tests.model.memory import Client
from tests.model.oracle import Oracle, Shown
from tests.push.board import BOARD
from tests.push.conftest import Server
from tests.support.clock import TestClock

__all__ = ["USERS", "Walk"]

USERS: Final = ("alice", "bob")
_MOST_CLIENTS: Final = 6
_NAMES: Final = tuple("abcdefgh")
_QUIET_EVERY: Final = 200


def shown(state: FeedState) -> Shown:
    return tuple((item.id, str(item.data["text"])) for item in state.items)


class Recorder:
    """Tells the oracle of every revision of one user's sessions."""

    def __init__(self, oracle: Oracle, user: str) -> None:
        self._oracle = oracle
        self._user = user

    def on_revision(self, session: UserSession) -> None:
        current = session.history.current
        self._oracle.revision(self._user, current.cursor, shown(current.state))

    def on_source_changed(self, session: UserSession, source_state: dict[str, JsonValue]) -> None:
        """Not looked at here."""

    def on_closed(self, session: UserSession, reason: CloseReason) -> None:
        """The walk records the next one."""


class Walk:
    """`step` until you are content; `settle` checks that everything has come together."""

    def __init__(self, server: Server, clock: TestClock, seed: int) -> None:
        self.server = server
        self.clock = clock
        self.random = Random(seed)
        self.oracle = Oracle(USERS)
        self.steps = 0
        self._clients: list[Client] = []
        self._names: dict[int, str] = {}
        self._text = 0
        self._recorded: dict[str, UserSession] = {}

    async def step(self) -> None:
        """One thing happens. Often several happen before anybody gets to run."""
        self.steps += 1
        actions = (
            (30, self._show),
            (10, self._connect),
            (6, self._drop),
            (10, self._stall),
            (14, self._go_on),
            (5, self._background),
            (6, self._foreground),
            (3, self._publish),
            (2, self._retract),
            (2, self._patch),
            (2, self._renew),
            (4, self._get),
            (1, self._evict),
            (12, self._breathe),
            (3, self._wait),
        )
        (action,) = self.random.choices([action for _, action in actions], [weight for weight, _ in actions])
        await action()
        for client in self._clients:
            if client.wrong is not None:
                raise client.wrong
        if self.steps % _QUIET_EVERY == 0:
            await self.settle()

    async def settle(self) -> None:
        """Everybody reads, everybody is in the foreground, nothing is under way: all must agree."""
        for client in self._clients:
            client.transport.go_on()
            await self._answered(client, client.request("connection.foreground"))
        await self.clock.advance(2.0, quiet_s=0.001)
        self._bury()
        for client in self._clients:
            self.oracle.quiet(self._names[id(client)], client.user, client.shown)
            session = self.server.manager.live(UserId(client.user))
            assert session is not None
            # The cursors may differ: of changes that undid each other before they could be sent, nothing is.
            assert client.shown == shown(session.history.current.state)
            view = session.source_view(BOARD)
            tags = (view.config or {}).get("tags", ())
            assert isinstance(tags, list | tuple)
            self.oracle.session_quiet(client.user, tuple(str(tag) for tag in tags), view.enabled)

    # What can happen

    async def _show(self) -> None:
        user = self.random.choice(USERS)
        names = self.random.sample(_NAMES, self.random.randint(0, len(_NAMES)))
        old = self.oracle.users[user].board
        notes = {
            name: old[name] if name in old and self.random.random() < 0.6 else self._words(user)
            for name in names
        }
        if UserId(user) in self.server.board.sources:
            self.oracle.show(user, notes)
            self.server.board.show(UserId(user), **notes)

    async def _connect(self) -> None:
        if len(self._clients) >= _MOST_CLIENTS:
            return
        user = self.random.choice(USERS)
        await self._record(user)
        client = Client(self.server.gateway, user, self._state_of)
        wishes = ["settings=0", "heartbeatMs=300000"]
        if self.random.random() < 0.2:
            wishes.append("delta=0")
        if self.random.random() < 0.2:
            wishes.append("minIntervalMs=500")
        self._enter(client, wishes)

    async def _drop(self) -> None:
        """A link breaks; most come back with their cursor."""
        client = self._any()
        if client is None:
            return
        client.transport.drop()
        await client.closed.wait()
        self._bury()
        if self.random.random() < 0.7 and client.cursor is not None:
            await self._record(client.user)
            again = Client(self.server.gateway, client.user, self._state_of)
            again.state, again.cursor = client.state, client.cursor
            self._enter(again, ["settings=0", "heartbeatMs=300000", f"since={client.cursor}"])

    async def _stall(self) -> None:
        client = self._any()
        if client is not None:
            client.transport.stall()

    async def _go_on(self) -> None:
        client = self._any()
        if client is not None:
            client.transport.go_on()

    async def _background(self) -> None:
        await self._ask("connection.background")

    async def _foreground(self) -> None:
        await self._ask("connection.foreground")

    async def _get(self) -> None:
        await self._ask("feed.get")

    async def _renew(self) -> None:
        client = self._any()
        if client is not None:
            await self._answered(
                client, client.request("connection.renew", token=self.server.token(client.user))
            )

    async def _publish(self) -> None:
        user, item_id = self.random.choice(USERS), self.random.choice(_NAMES)
        text = self._words(user)
        item = {"id": item_id, "type": "note", "data": {"text": text}}
        if await self._backend("item.publish", feed=user, items=[item]):
            self.oracle.publish(user, item_id, text)

    async def _retract(self) -> None:
        user, item_id = self.random.choice(USERS), self.random.choice(_NAMES)
        if await self._backend("item.retract", feed=user, ids=[item_id]):
            self.oracle.retract(user, item_id)

    async def _patch(self) -> None:
        client = self._any()
        if client is None:
            return
        client.transport.go_on()
        tags = tuple(self.random.sample(_NAMES, self.random.randint(0, 3)))
        enabled = self.random.random() < 0.7
        number = client.request("source.patch", sourceId=BOARD, enabled=enabled, config={"tags": list(tags)})
        answer = await self._answered(client, number)
        if answer is not None and "result" in answer:
            self.oracle.patch(client.user, enabled=enabled, tags=tags)

    async def _evict(self) -> None:
        """The session goes; its connections are told to come back, and the walk sees to it that some do."""
        user = self.random.choice(USERS)
        await self.server.manager.remove(UserId(user))
        self._recorded.pop(user, None)
        for client in [client for client in self._clients if client.user == user]:
            client.transport.drop()
            await client.closed.wait()
        self._bury()

    async def _breathe(self) -> None:
        await self.clock.settle()

    async def _wait(self) -> None:
        await self.clock.advance(self.random.random() * 2, quiet_s=0.0005)

    # How

    def _enter(self, client: Client, wishes: list[str]) -> None:
        self._clients.append(client)
        self._names[id(client)] = f"{client.user}#{self.steps}"
        client.connect(self.server.token(client.user), "&".join(wishes))

    async def _record(self, user: str) -> None:
        """Whoever is told a state must have been preceded by the oracle: it listens first."""
        session = await self.server.manager.get_or_create(UserId(user))
        if self._recorded.get(user) is session:
            return
        self._recorded[user] = session
        recorder = Recorder(self.oracle, user)
        recorder.on_revision(session)
        session.attach(recorder)

    def _state_of(self, client: Client) -> None:
        self.oracle.told(self._names[id(client)], client.user, client.cursor or "", client.shown)

    async def _ask(self, method: str) -> None:
        client = self._any()
        if client is None:
            return
        number = client.request(method)
        if not client.transport.stalled:
            await self._answered(client, number)

    async def _backend(self, method: str, **params: object) -> bool:
        publisher = Client(self.server.gateway, "backend", lambda _: None)
        # A new token each time: long walks outlive one.
        publisher.connect(self.server.token("backend", "item:publish"), "own=0")
        await self.clock.settle()
        answer = await publisher.answer(publisher.request(method, **params))
        publisher.transport.drop()
        return answer is not None and "result" in answer

    async def _answered(self, client: Client, number: int) -> dict[str, object] | None:
        client.transport.go_on()
        answer = await client.answer(number)
        self._bury()
        return answer

    def _any(self) -> Client | None:
        self._bury()
        return self.random.choice(self._clients) if self._clients else None

    def _bury(self) -> None:
        for client in [client for client in self._clients if client.closed.is_set()]:
            self._clients.remove(client)
            self.oracle.forget(self._names.pop(id(client)))

    def _words(self, user: str) -> str:
        self._text += 1
        return f"{user} {self._text}"
