"""Who has a session: made once, removed once, let go when nobody is there."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import assert_type

import anyio
import pytest

from protocol.ids import SourceId, UserId
from server.session.errors import (
    NoSuchUser,
    SessionRemoved,
    SessionsClosed,
    SessionsFull,
    SourceUnavailable,
)
from server.session.manager import SessionManager
from server.session.options import SessionOptions
from server.session.user_session import UserSession
from server.sources.inbox import INBOX_ID
from tests.session.conftest import ALICE, BOB, NO_CHORES, Listener, World, texts
from tests.session.providers import STAGE, Built, Gate, Stage, StageSource


def idle_after(idle_ttl_s: float) -> SessionOptions:
    return replace(NO_CHORES, idle_ttl_s=idle_ttl_s, sweep_every_s=15.0)


async def test_a_hundred_concurrent_callers_get_one_session_and_each_provider_builds_once(
    world: World,
) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    got: list[UserSession] = []

    async def ask() -> None:
        got.append(await replica.manager.get_or_create(ALICE))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(ask)
    assert len(got) == 100
    assert len(set(map(id, got))) == 1
    assert len(stage.built) == 1


async def test_a_caller_that_is_cancelled_does_not_take_the_creation_along(world: World) -> None:
    gate = Gate()
    stage = Stage(on_build=lambda _: gate.pass_())
    replica = await world.replica(stage, defaults=[STAGE])
    got: list[UserSession] = []

    async def ask() -> None:
        got.append(await replica.manager.get_or_create(ALICE))

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(ask)
            scope.cancel()
            await replica.manager.get_or_create(ALICE)
        gate.open()
    assert len(got) == 1


async def test_a_new_user_is_given_the_default_rows_and_another_session_does_not_give_them_again(
    world: World,
) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE, INBOX_ID])
    session = await replica.session()
    assert [s["sourceId"] for s in session.source_states() if s["enabled"]] == [STAGE, INBOX_ID]
    await replica.sources.delete(ALICE, STAGE)
    await replica.manager.remove(ALICE)
    session = await replica.session()
    assert session.source_state(STAGE)["version"] == 0
    assert session.source_state(INBOX_ID)["enabled"] is True


async def test_a_new_session_is_not_held_up_by_a_source_that_takes_long_to_build(world: World) -> None:
    gate = Gate()
    replica = await world.replica(Stage(on_build=lambda _: gate.pass_()), defaults=[STAGE])
    session = await replica.manager.get_or_create(ALICE)
    assert session.history.current.state.pending == (STAGE,)
    assert session.source_state(STAGE)["status"] == "starting"
    gate.open()
    await session.answered(5.0)
    assert texts(session) == ["hello"]


@pytest.mark.parametrize("place", [0, 1, 3], ids=["first", "between", "last"])
async def test_a_hung_build_does_not_keep_the_other_sources_from_being_built(
    world: World, place: int
) -> None:
    gate = Gate()
    hung = Stage(on_build=lambda _: gate.pass_())
    stages = [Stage(source_id=SourceId(f"test.good{n}")) for n in range(3)]
    stages.insert(place, hung)
    replica = await world.replica(*stages, defaults=[stage.source_id for stage in stages])
    session = await replica.manager.get_or_create(ALICE)
    listener = Listener()
    session.attach(listener)
    await world.eventually(lambda: len(texts(session)) == 3, within_s=1.0)
    assert session.history.current.state.pending == (STAGE,)


async def test_all_sources_failing_is_still_a_session_and_its_settings_still_work(world: World) -> None:
    async def refuse(_: Built) -> None:
        raise RuntimeError("boom, with a secret in it")

    stage = Stage(on_build=refuse)
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    assert session.source_state(STAGE)["status"] == "failing"
    (error,) = session.history.current.state.errors
    assert error.source_id == STAGE
    assert error.code == "internal"
    assert "secret" not in error.message
    stage.on_build = None
    await replica.sources.patch(ALICE, STAGE, config={"text": "again"})
    await world.eventually(lambda: texts(session) == ["again"])
    assert session.history.current.state.errors == ()


async def test_whoever_joined_a_creation_that_is_removed_gets_an_error_and_no_destroyed_session(
    world: World,
) -> None:
    gate = Gate()
    stage = Stage(on_build=lambda _: gate.pass_())
    replica = await world.replica(stage, defaults=[STAGE], options=SessionOptions(build_patience_s=60.0))
    removed = 0

    async def ask() -> None:
        nonlocal removed
        try:
            session = await replica.manager.get_or_create(ALICE)
        except SessionRemoved:
            removed += 1
        else:
            assert not session.closed

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await gate.arrived.wait()
        await replica.manager.remove(ALICE)
        gate.open()
        await world.advance(60.0)
    assert removed == 5


async def test_a_creation_begun_after_the_removal_is_its_own_and_succeeds(world: World) -> None:
    gate = Gate()
    first = True

    async def once(_: Built) -> None:
        nonlocal first
        if first:
            first = False
            await gate.pass_()

    options = SessionOptions(build_patience_s=60.0)
    replica = await world.replica(Stage(on_build=once), defaults=[STAGE], options=options)

    sessions: list[UserSession] = []

    async def joined() -> None:
        with pytest.raises(SessionRemoved):
            await replica.manager.get_or_create(ALICE)

    async with anyio.create_task_group() as group:
        group.start_soon(joined)
        await gate.arrived.wait()
        await replica.manager.remove(ALICE)
        sessions.append(session := await replica.manager.get_or_create(ALICE))
        await session.answered(5.0)
        assert texts(session) == ["hello"]
        gate.open()
        await world.advance(60.0)
    assert [replica.manager.live(ALICE)] == sessions
    assert not sessions[0].closed


async def test_one_call_ends_everything_of_a_user(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE], options=NO_CHORES)
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    session.listen()
    await replica.manager.remove(ALICE)
    assert session.closed
    assert listener.closed == ["removed"]
    assert [source.closed for source in stage.made] == [True]
    assert replica.manager.live(ALICE) is None
    said = len(listener.revisions)
    stage.made[0].handle.push_items(stage.made[0].items("too late"))
    await world.advance(3600.0)
    assert len(listener.revisions) == said
    with pytest.raises(SessionRemoved):
        session.attach(listener)


async def test_after_the_end_there_are_no_sessions_any_more(world: World) -> None:
    stage = Stage()
    kept: list[SessionManager] = []
    listener = Listener()
    async with anyio.create_task_group(), world.stack.pop_all() as stack:
        world.stack = stack
        replica = await world.replica(stage, defaults=[STAGE])
        kept.append(replica.manager)
        (await replica.session()).attach(listener)
    with pytest.raises(SessionsClosed):
        await kept[0].get_or_create(BOB)
    assert listener.closed == ["shutdown"]
    assert [source.closed for source in stage.made] == [True]


async def test_who_reads_somebody_that_does_not_exist_makes_nobody(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    with pytest.raises(NoSuchUser):
        await replica.manager.get_or_create(UserId("nobody"), existing=True)
    row = await replica.database.fetch_one("SELECT count(*) FROM users")
    assert row is not None
    assert row[0] == 0
    await replica.manager.get_or_create(ALICE)
    await replica.manager.remove(ALICE)
    await replica.manager.get_or_create(ALICE, existing=True)


async def test_a_session_that_nobody_follows_is_let_go_after_its_time_and_leaves_nothing_behind(
    world: World,
) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE], options=idle_after(1800.0))
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    session.detach(listener)
    await world.advance(1790.0)
    assert replica.manager.live(ALICE) is session
    await world.eventually(lambda: session.closed, within_s=60.0)
    assert replica.manager.live(ALICE) is None
    await world.eventually(lambda: stage.closed == stage.made)
    assert replica.manager.statistics().directory.evicted == 1


async def test_an_open_silent_connection_keeps_its_session(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE], options=idle_after(100.0))
    session = await replica.session()
    session.attach(Listener())
    await world.advance(1000.0)
    assert replica.manager.live(ALICE) is session


async def test_who_comes_back_in_time_finds_the_same_session(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE], options=idle_after(100.0))
    session = await replica.session()
    listener = Listener()
    for _ in range(5):
        session.attach(listener)
        await world.advance(90.0)
        session.detach(listener)
        await world.advance(90.0)
    assert replica.manager.live(ALICE) is session


async def test_past_the_limit_the_longest_idle_session_goes_first(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE], options=SessionOptions(max_sessions=3))
    sessions: list[UserSession] = []
    for name in "abc":
        sessions.append(await replica.session(UserId(name)))
        await world.advance(10.0)
    sessions[0].attach(Listener())
    await replica.session(UserId("d"))
    assert [session.closed for session in sessions] == [False, True, False]
    assert replica.manager.statistics().directory.limits["max_sessions"] == 1


async def test_a_full_process_refuses_rather_than_end_what_is_in_use(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE], options=SessionOptions(max_sessions=1))
    session = await replica.session()
    session.attach(Listener())
    with pytest.raises(SessionsFull):
        await replica.session(BOB)
    assert not session.closed


async def test_a_session_just_handed_out_is_not_taken_away_for_another(world: World) -> None:
    replica = await world.replica(Stage(), options=SessionOptions(max_sessions=1))
    session = await replica.manager.get_or_create(ALICE)
    with pytest.raises(SessionsFull):
        await replica.manager.get_or_create(BOB)
    assert not session.closed


async def test_a_typed_handle_is_the_running_source_or_a_typed_error(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    source = session.source(StageSource)
    assert_type(source, StageSource)
    assert source is stage.made[0]
    await replica.sources.patch(ALICE, STAGE, enabled=False)
    with pytest.raises(SourceUnavailable) as caught:
        session.source(StageSource)
    assert caught.value.status == "off"


async def test_ended_sessions_are_kept_by_nobody(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    for number in range(5):
        await replica.session(UserId(f"user-{number}"))
        await replica.manager.remove(UserId(f"user-{number}"))
    stage.made.clear()
    stage.closed.clear()
    await world.clock.settle()
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, UserSession)]


async def test_while_nobody_is_there_to_be_told_changes_make_one_revision_when_somebody_comes(
    world: World,
) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    before = session.history.current
    (source,) = stage.made
    for number in range(10):
        source.handle.push_items(source.items(f"text {number}"))
    assert session.history.current.number == before.number + 1
    assert texts(session) == ["text 9"]


async def test_an_answer_equal_to_the_last_makes_no_revision(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    number = session.history.current.number
    async with anyio.create_task_group() as group:
        group.start_soon(session.refresh)
        await world.advance(5.0)
    stage.made[0].handle.push_items(stage.made[0].items())
    assert session.history.current.number == number
    assert listener.revisions == []


async def test_a_listener_that_raises_is_logged_and_hurts_nobody_else(world: World) -> None:
    class Broken(Listener):
        def on_revision(self, session: UserSession) -> None:
            raise RuntimeError("broken")

    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    broken, good = Broken(), Listener()
    session.attach(broken)
    session.attach(good)
    stage.made[0].handle.push_items(stage.made[0].items("new"))
    assert good.revisions == [session.history.current]


async def test_sources_are_refreshed_while_somebody_listens_and_not_otherwise(world: World) -> None:
    asked = 0

    async def count(_: StageSource) -> None:
        nonlocal asked
        asked += 1

    replica = await world.replica(Stage(on_fetch=count), defaults=[STAGE], options=NO_CHORES)
    session = await replica.session()
    session.attach(Listener())
    await world.advance(1200.0)
    assert asked == 1
    session.listen()
    await world.advance(1200.0)
    assert asked >= 4
    session.unlisten()
    before = asked
    await world.advance(1200.0)
    assert asked == before
