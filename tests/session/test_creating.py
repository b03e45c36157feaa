"""Sessions in the making, many at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import checkpoint

from protocol.feed import FeedItem
from protocol.ids import UserId
from server.engine.context import Context
from server.session.errors import (
    SessionError,
    SessionRemoved,
    SessionsClosed,
    SessionsFull,
    SessionUnavailable,
)
from server.session.user_session import UserSession
from server.sources.inbox import INBOX_ID
from storage.loading import UserRows
from tests.session.conftest import ALICE, BOB, NO_CHORES, Listener, World, texts
from tests.session.providers import STAGE, Gate, Stage
from tests.storage.wire import open_wire
from tests.support.postgres import PostgresServer

PATIENCE_S = 20.0


class Heard:
    """What `prepare` said, for any number of users."""

    def __init__(self) -> None:
        self.found: dict[UserId, UserSession | SessionError] = {}
        self._news = anyio.Event()

    def of(self, user: UserId) -> Callable[[UserSession | SessionError], None]:
        def hear(found: UserSession | SessionError) -> None:
            assert user not in self.found, "it is said once"
            self.found[user] = found
            self._news.set()

        return hear

    async def until(self, count: int) -> None:
        with anyio.fail_after(PATIENCE_S):
            while len(self.found) < count:
                self._news = anyio.Event()
                await self._news.wait()


class Fragile:
    """An overlay that does not bear one user's rows."""

    def __init__(self, session: UserSession, broken: UserId) -> None:
        self._is_broken = session.user == broken

    def fill(self, items: tuple[FeedItem, ...], context: Context) -> tuple[FeedItem, ...]:
        return items

    def restore(self, rows: UserRows) -> None:
        if self._is_broken:
            raise RuntimeError("boom")

    def revised(self, session: UserSession) -> None:
        """Nothing."""

    def listening(self, session: UserSession) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""


def users(count: int) -> list[UserId]:
    return [UserId(f"user-{number}") for number in range(count)]


async def test_a_storm_of_users_is_tens_of_queries_and_no_task_for_each(
    world: World, postgres: PostgresServer
) -> None:
    name = urlsplit(world.url).path[1:]
    wire = await world.stack.enter_async_context(open_wire(postgres.dsn(name, tcp=True)))
    world.url = wire.dsn
    replica = await world.replica(Stage(), defaults=[STAGE], options=NO_CHORES)
    heard, everyone = Heard(), users(500)
    for turn in range(2):
        before = wire.executed
        for user in everyone:
            replica.manager.prepare(user, heard.of(user))
        tasks = anyio.get_running_tasks()
        assert len([task for task in tasks if task.name == "session.create"]) <= 5
        await heard.until(len(everyone))
        # Five reads; who is new is made, and read again.
        assert wire.executed - before <= (5 if turn else 25)
        assert all(isinstance(found, UserSession) for found in heard.found.values())
        for user in everyone:
            await replica.manager.remove(user)
        heard.found.clear()


async def test_others_get_their_turn_while_sessions_are_being_made(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    heard, turns = Heard(), [0]
    made_at: list[int] = []

    async def others() -> None:
        while True:
            turns[0] += 1
            await checkpoint()

    def note(user: UserId) -> Callable[[UserSession | SessionError], None]:
        hear = heard.of(user)

        def then(found: UserSession | SessionError) -> None:
            made_at.append(turns[0])
            hear(found)

        return then

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        for user in users(100):
            replica.manager.prepare(user, note(user))
        await heard.until(100)
        group.cancel_scope.cancel()
    assert max(made_at.count(turn) for turn in made_at) <= 16


async def test_one_user_whose_rows_cannot_be_applied_does_not_keep_the_others_from_theirs(
    world: World,
) -> None:
    replica = await world.replica(
        Stage(), defaults=[STAGE], overlay=lambda session: Fragile(session, UserId("user-3"))
    )
    heard = Heard()
    for user in users(8):
        replica.manager.prepare(user, heard.of(user))
    await heard.until(8)
    broken = heard.found.pop(UserId("user-3"))
    assert isinstance(broken, SessionUnavailable)
    assert "boom" not in str(broken)
    assert all(isinstance(found, UserSession) for found in heard.found.values())
    assert replica.manager.live(UserId("user-3")) is None
    counted = replica.manager.statistics().directory
    assert (counted.created, counted.failed, counted.creating) == (7, 1, 0)


async def test_who_is_told_of_a_session_can_attach_to_it_then_and_there(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    heard, listener = Heard(), Listener()

    def attach(found: UserSession | SessionError) -> None:
        assert isinstance(found, UserSession)
        found.attach(listener)
        heard.of(ALICE)(found)

    replica.manager.prepare(ALICE, attach)
    await heard.until(1)
    session = heard.found.pop(ALICE)
    assert isinstance(session, UserSession)
    assert session.attached == 1
    await session.answered(5.0)
    assert texts(session) == ["hello"]
    replica.manager.prepare(ALICE, heard.of(ALICE))
    assert heard.found == {ALICE: session}, "a live one is there at once"


async def test_one_who_breaks_when_told_does_not_keep_it_from_the_others(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    heard = Heard()

    def broken(_: UserSession | SessionError) -> None:
        raise RuntimeError("boom")

    replica.manager.prepare(ALICE, broken)
    replica.manager.prepare(ALICE, heard.of(ALICE))
    session = await replica.manager.get_or_create(ALICE)
    assert heard.found == {ALICE: session}


async def test_why_there_is_no_session_is_said_instead(world: World) -> None:
    heard = Heard()
    replica = await world.replica(Stage(), defaults=[STAGE], options=replace(NO_CHORES, max_sessions=1))
    replica.manager.prepare(ALICE, heard.of(ALICE))
    await replica.manager.remove(ALICE)
    await heard.until(1)
    assert isinstance(heard.found.pop(ALICE), SessionRemoved)
    (await replica.session(ALICE)).attach(Listener())
    replica.manager.prepare(BOB, heard.of(BOB))
    assert isinstance(heard.found.pop(BOB), SessionsFull)
    await replica.manager.aclose()
    replica.manager.prepare(BOB, heard.of(BOB))
    assert isinstance(heard.found.pop(BOB), SessionsClosed)


async def test_while_the_store_is_away_all_who_wait_together_are_told(
    world: World, postgres: PostgresServer
) -> None:
    replica, heard = await world.replica(Stage(), defaults=[STAGE]), Heard()
    postgres.stop()
    try:
        for user in users(3):
            replica.manager.prepare(user, heard.of(user))
        await world.eventually(lambda: len(heard.found) == 3)
    finally:
        postgres.start()
    assert all(isinstance(found, SessionUnavailable) for found in heard.found.values())
    assert len({id(found) for found in heard.found.values()}) == 3
    session = await replica.session(UserId("user-1"))
    assert texts(session) == ["hello"]


async def test_who_waits_at_the_end_of_the_process_is_told_of_it(world: World) -> None:
    gate, heard = Gate(), Heard()
    replica = await world.replica(
        Stage(on_build=lambda _: gate.pass_()),
        defaults=[STAGE],
        options=replace(NO_CHORES, build_patience_s=1e9),
    )
    replica.manager.prepare(ALICE, heard.of(ALICE))
    await gate.arrived.wait()
    await replica.manager.aclose()
    assert isinstance(heard.found.pop(ALICE), SessionsClosed)


async def test_a_write_that_was_heard_of_meanwhile_is_in_the_session_that_is_given(world: World) -> None:
    gate, heard = Gate(), Heard()
    stage = Stage(on_build=lambda _: gate.pass_())
    replica = await world.replica(stage, defaults=[STAGE], options=replace(NO_CHORES, build_patience_s=1e9))
    other = await world.replica(Stage(), defaults=[STAGE], options=NO_CHORES)
    replica.manager.prepare(ALICE, heard.of(ALICE))
    await gate.arrived.wait()
    stage.on_build = None
    await other.sources.patch(ALICE, STAGE, config={"text": "later"})
    gate.open()
    await heard.until(1)
    session = heard.found[ALICE]
    assert isinstance(session, UserSession)
    await session.answered(5.0)
    assert texts(session) == ["later"]
