"""Many replicas, one truth: hints make them quick, looks make them right."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import StorageUnavailableError
from protocol.frozen import JsonValue
from protocol.ids import UserId
from protocol.messages.objects import PublishItem
from server.engine.source import ConfigProblem
from server.replication import Hint
from server.session.errors import SessionsClosed, SessionUnavailable
from server.session.options import SessionOptions
from server.session.user_session import UserSession
from server.sources.inbox import INBOX_ID
from storage.database import Database
from tests.session.conftest import ALICE, BOB, Listener, Replica, World, texts
from tests.session.providers import STAGE, Built, Stage
from tests.support.postgres import PostgresServer

QUIET = SessionOptions(look_every_s=1e6, look_alone_s=1e6)
"""Without looks: what arrives has come by the bus."""


async def pair(
    world: World, options: SessionOptions | None = None
) -> tuple[Replica, Replica, UserSession, UserSession]:
    replica = await world.replica(Stage(), defaults=[STAGE, INBOX_ID], options=options)
    other = await world.replica(Stage(), defaults=[STAGE, INBOX_ID], options=options)
    return replica, other, await replica.session(), await other.session()


def note(local: str, text: str) -> PublishItem:
    return PublishItem.read({"id": local, "type": "note", "data": {"text": text}})


async def test_a_write_on_one_replica_is_in_the_sessions_of_the_others_at_once(world: World) -> None:
    replica, _, session, mirror = await pair(world, QUIET)
    listener = Listener()
    mirror.attach(listener)
    await replica.sources.patch(ALICE, STAGE, config={"text": "new"})
    await replica.items.publish("shop", [ALICE], [note("1", "published")])
    await world.eventually(lambda: sorted(texts(mirror)) == ["new", "published"], within_s=5.0)
    await world.eventually(lambda: sorted(texts(session)) == ["new", "published"], within_s=5.0)
    assert mirror.seq == session.seq == 3
    assert mirror.history.current.state.digest == session.history.current.state.digest
    assert [state["version"] for state in listener.sources if state["sourceId"] == STAGE][-1] == 2


async def test_a_hint_that_is_lost_is_made_up_for_by_the_look(world: World) -> None:
    replica, other, _, mirror = await pair(world)
    for bus in (replica.bus, other.bus):
        bus.announce = lambda hint: None
    await replica.sources.patch(ALICE, STAGE, config={"text": "new"})
    assert mirror.seq == 1
    await world.eventually(lambda: texts(mirror) == ["new"], within_s=8.0)
    assert other.manager.statistics().looks_differing == 1


async def test_while_the_bus_is_away_looks_come_more_often_and_at_once_when_it_is_back(
    world: World,
) -> None:
    options = SessionOptions(look_every_s=1000.0, look_alone_s=100.0)
    replica, other, _, mirror = await pair(world, options)
    replica.bus.cut()
    other.bus.cut()
    await world.quiet()
    await replica.sources.patch(ALICE, STAGE, config={"text": "first"})
    await world.eventually(lambda: mirror.seq == 2, within_s=130.0)
    await replica.sources.patch(ALICE, STAGE, config={"text": "second"})
    replica.bus.mend()
    other.bus.mend()
    await world.eventually(lambda: mirror.seq == 3, within_s=1.0)


async def test_a_hint_of_what_is_known_already_reads_nothing(world: World) -> None:
    replica, other, session, mirror = await pair(world, QUIET)
    await replica.sources.patch(ALICE, STAGE, config={"text": "new"})
    await world.eventually(lambda: mirror.seq == 2)
    reads = other.manager.statistics().reads
    for seq in (2, 1, 0, 2):
        other.manager.hint(ALICE, seq)
    other.manager.hint(UserId("not here"), 99)
    await world.advance(1.0)
    assert other.manager.statistics().reads == reads
    assert session.seq == mirror.seq


async def test_a_replica_given_a_later_cursor_reads_the_rows_first(world: World) -> None:
    replica, other, _, mirror = await pair(world, QUIET)
    other.bus.cut()
    await replica.sources.patch(ALICE, STAGE, config={"text": "new"})
    assert mirror.seq == 1
    await other.manager.bring_up_to(ALICE, 2)
    assert mirror.seq == 2
    assert mirror.source_view(STAGE).config == {"text": "new"}


async def test_a_cursor_of_a_write_that_the_store_has_lost_does_not_hang(world: World) -> None:
    replica, _, session, _ = await pair(world, QUIET)
    with anyio.fail_after(5.0):
        await replica.manager.bring_up_to(ALICE, 99)
    assert session.seq == 1


async def test_a_store_that_lost_its_last_writes_takes_the_sessions_back_with_it(world: World) -> None:
    replica, _, session, mirror = await pair(world)
    await replica.sources.patch(ALICE, STAGE, config={"text": "kept"})
    await replica.sources.patch(ALICE, STAGE, config={"text": "lost", "count": 2})
    await world.eventually(lambda: texts(session) == texts(mirror) == ["lost", "lost"])
    await replica.database.run("UPDATE users SET seq = 2")
    await replica.database.run(
        'UPDATE user_source_config SET version = 2, config = \'{"text": "kept"}\' WHERE source_id = $1', STAGE
    )
    await world.eventually(lambda: texts(session) == texts(mirror) == ["kept"], within_s=15.0)
    assert session.seq == mirror.seq == 2
    assert session.source_view(STAGE).version == 2


async def test_two_replicas_that_begin_with_one_user_give_the_defaults_once(world: World) -> None:
    replicas = [await world.replica(Stage(), defaults=[STAGE, INBOX_ID]) for _ in range(3)]
    sessions: list[UserSession] = []

    async def begin(replica: Replica) -> None:
        sessions.append(await replica.manager.get_or_create(ALICE))

    async with anyio.create_task_group() as group:
        for replica in replicas:
            group.start_soon(begin, replica)
    assert {session.seq for session in sessions} == {1}


async def test_ten_sessions_are_looked_at_in_one_query(world: World) -> None:
    replica, other, *_ = await pair(world, QUIET)
    users = [UserId(f"user-{number}") for number in range(10)]
    mirrors = [await other.session(user) for user in users]
    other.bus.cut()
    await world.quiet()
    for user in users[:7]:
        await replica.sources.put(user, STAGE, enabled=True, config={"text": "new"})
    assert await other.manager.look() == 7
    assert [mirror.source_view(STAGE).config for mirror in mirrors[:7]] == [{"text": "new"}] * 7
    assert await other.manager.look() == 0


@dataclass
class Mangle:
    """A bus that loses, doubles and holds back what it is told, as it is drawn."""

    draw: Callable[[], str]
    announce: Callable[[Hint], None]
    held: list[Hint]

    def __call__(self, hint: Hint) -> None:
        match self.draw():
            case "lose":
                return
            case "double":
                self.announce(hint)
                self.announce(hint)
            case "hold":
                self.held.append(hint)
            case "release":
                for late in reversed(self.held):
                    self.announce(late)
                self.held.clear()
                self.announce(hint)
            case _:
                self.announce(hint)


FATES = st.sampled_from(["pass", "lose", "double", "hold", "release"])
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("text", {"config": {"text": "a"}}),
    ("text", {"config": {"text": "b"}}),
    ("count", {"config": {"count": 3}}),
    ("count", {"config": {"count": None}}),
    ("off", {"enabled": False}),
    ("on", {"enabled": True}),
]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_loss_doubling_and_reordering_of_hints_ends_in_equal_sessions(
    world: World, data: st.DataObject
) -> None:
    replicas = [await world.replica(Stage(), defaults=[STAGE, INBOX_ID], options=QUIET) for _ in range(2)]
    user = UserId(f"user-{len(world.hub.buses)}")
    sessions = [await replica.session(user) for replica in replicas]
    for replica in replicas:
        replica.bus.announce = Mangle(lambda: data.draw(FATES), replica.bus.announce, [])
    for _ in range(data.draw(st.integers(1, 6))):
        replica = replicas[data.draw(st.integers(0, 1))]
        name, change = data.draw(st.sampled_from(WRITES))
        if name == "text" and data.draw(st.booleans()):
            await replica.items.publish("shop", [user], [note("1", str(change["config"]["text"]))])
        else:
            await replica.sources.patch(user, STAGE, **change)
    for replica in replicas:
        await replica.manager.look()
    await world.eventually(lambda: all(not s.history.current.state.pending for s in sessions))
    assert sessions[0].seq == sessions[1].seq
    assert sessions[0].history.current.state.digest == sessions[1].history.current.state.digest
    for source_id in (STAGE, INBOX_ID):
        first, second = (session.source_view(source_id) for session in sessions)
        assert (first.version, first.enabled, first.config, first.status) == (
            second.version,
            second.enabled,
            second.config,
            second.status,
        )
    for replica in replicas:
        await replica.manager.remove(user)


# The store is away


async def test_warm_sessions_go_on_without_the_store_and_cold_ones_wait(
    world: World, postgres: PostgresServer
) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    postgres.stop()
    (source,) = stage.made
    source.handle.push_items(source.items("still here"))
    assert texts(session) == ["still here"]
    assert await replica.manager.get_or_create(ALICE) is session
    assert (await replica.sources.list_states(ALICE))[0]["status"] == "active"
    outcomes: list[str] = []

    async def cold() -> None:
        with pytest.raises(SessionUnavailable):
            await replica.manager.get_or_create(BOB)
        outcomes.append("cold")

    async def write() -> None:
        with pytest.raises(StorageUnavailableError) as caught:
            await replica.sources.patch(ALICE, STAGE, config={"text": "no"})
        outcomes.append(caught.value.outcome)

    async with anyio.create_task_group() as group:
        group.start_soon(cold)
        group.start_soon(write)
        await world.eventually(lambda: len(outcomes) == 2, within_s=30.0)
    assert sorted(outcomes) == ["cold", "none"]
    assert texts(session) == ["still here"]
    await back(postgres, replica)
    await world.eventually(lambda: not replica.manager.statistics().storage_trouble, within_s=60.0)
    await replica.sources.patch(ALICE, STAGE, config={"text": "back"})
    await world.eventually(lambda: texts(session) == ["back"])
    assert replica.manager.live(BOB) is None
    await replica.session(BOB)


async def test_a_session_whose_rows_could_not_be_read_is_read_when_the_store_is_back(
    world: World, postgres: PostgresServer
) -> None:
    replica, other, _, mirror = await pair(world)
    other.bus.cut()
    await world.quiet()
    await replica.sources.patch(ALICE, STAGE, config={"text": "new"})
    postgres.stop()
    raised: list[Exception] = []

    async def bring() -> None:
        with pytest.raises(SessionUnavailable) as caught:
            await other.manager.bring_up_to(ALICE, 2)
        raised.append(caught.value)

    async with anyio.create_task_group() as group:
        group.start_soon(bring)
        await world.eventually(lambda: bool(raised), within_s=30.0)
    assert mirror.seq == 1
    await back(postgres, replica, other)
    await world.eventually(lambda: texts(mirror) == ["new"], within_s=30.0)


async def test_a_retry_that_could_not_read_its_rows_is_made_when_the_store_is_back(
    world: World, postgres: PostgresServer
) -> None:
    broken = True

    async def refuse(_: Built) -> None:
        if broken:
            raise ConfigProblem("not yet")

    replica = await world.replica(Stage(on_build=refuse), defaults=[STAGE])
    session = await replica.session()
    assert session.source_state(STAGE)["status"] == "failing"
    postgres.stop()
    await world.advance(30.0)
    broken = False
    await back(postgres, replica)
    await world.eventually(lambda: texts(session) == ["hello"], within_s=30.0)


async def test_the_answer_to_a_write_tells_what_was_written_though_it_cannot_be_read_again_yet(
    world: World,
) -> None:
    """The load of a session's rows stands before a lock that the write does not need."""
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    answers: list[dict[str, JsonValue]] = []

    async def patch() -> None:
        answers.append(await replica.sources.patch(ALICE, STAGE, config={"text": "written"}))

    async with locked(world, "reminders"), anyio.create_task_group() as group:
        group.start_soon(patch)
        await world.clock.advance(6.0, quiet_s=0.05)
    assert (answers[0]["config"], answers[0]["version"]) == ({"text": "written"}, 2)
    await world.eventually(lambda: texts(session) == ["written"])


async def test_while_the_last_is_saved_nobody_gets_a_new_session(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    async with anyio.create_task_group() as group, locked(world, "source_state"):
        group.start_soon(replica.manager.aclose)
        await world.clock.settle(quiet_s=0.05)
        with pytest.raises(SessionsClosed):
            await replica.manager.get_or_create(BOB)


async def back(postgres: PostgresServer, *replicas: Replica) -> None:
    """Starts the store again, and returns when these have found it."""
    postgres.start()
    for replica in replicas:
        await replica.database.global_seq()


@asynccontextmanager
async def locked(world: World, table: str) -> AsyncGenerator[None]:
    """Nobody else reads or writes that table meanwhile."""
    connect = Database.open(world.url, pool_size=1, timeout_s=1e6)
    async with connect as database, database.write_global() as tx:
        await tx.run(f"LOCK TABLE {table}")
        yield


# A restart


async def restarted(world: World, replica: Replica, *stages: Stage) -> UserSession:
    """The user's session on a replica that has just started."""
    await replica.manager.save()
    fresh = await world.replica(*stages, defaults=[STAGE])
    return await fresh.manager.get_or_create(ALICE)


async def test_a_restart_blanks_nobodys_screen(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    before = (await replica.session()).history.current.state

    async def never(_: object) -> None:
        await anyio.sleep_forever()

    session = await restarted(world, replica, Stage(on_fetch=never))
    state = session.history.current.state
    assert state.items == before.items
    assert state.context == before.context
    assert state.pending == (STAGE,)


async def test_a_source_that_cannot_be_built_after_a_restart_still_shows_what_it_had(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()

    async def refuse(_: object) -> None:
        raise RuntimeError("down")

    session = await restarted(world, replica, Stage(on_build=refuse))
    assert texts(session) == ["hello"]
    assert session.source_state(STAGE)["status"] == "failing"


async def test_what_was_saved_under_other_settings_is_not_shown(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    await replica.manager.save()
    await replica.manager.remove(ALICE)
    await replica.sources.patch(ALICE, STAGE, config={"text": "changed"})

    async def never(_: object) -> None:
        await anyio.sleep_forever()

    fresh = await world.replica(Stage(on_fetch=never), defaults=[STAGE])
    session = await fresh.manager.get_or_create(ALICE)
    assert texts(session) == []


async def test_what_sources_show_is_saved_now_and_then_when_they_are_evicted_and_at_the_end(
    world: World,
) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    session.attach(Listener())
    await world.eventually(lambda: not session.dirty, within_s=15.0)
    assert await saved_texts(replica) == "hello"
    stage.made[0].handle.push_items(stage.made[0].items("evicted"))
    await replica.manager.remove(ALICE)
    assert await saved_texts(replica) == "evicted"
    session = await replica.session()
    stage.made[1].handle.push_items(stage.made[1].items("at the end"))
    await replica.manager.aclose()
    assert await saved_texts(replica) == "at the end"


async def saved_texts(replica: Replica) -> str | None:
    row = await replica.database.fetch_one("SELECT saved FROM source_state WHERE source_id = $1", STAGE)
    if row is None:
        return None
    return next(
        (text for text in ("hello", "evicted", "at the end") if f'"text":"{text}"'.encode() in row[0]), None
    )


async def test_what_has_not_changed_is_not_saved_again(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    await replica.manager.save()
    before = await replica.database.fetch_one("SELECT saved_at FROM source_state")
    session.dirty = True
    await replica.manager.save()
    after = await replica.database.fetch_one("SELECT saved_at FROM source_state")
    assert before is not None
    assert after is not None
    assert before[0] == after[0]


async def test_saving_raises_no_seq(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    await replica.manager.save()
    assert await replica.database.differing([(ALICE, session.seq)]) == []
