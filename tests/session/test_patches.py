"""`source.*`: what is asked of a row, and what becomes of it in the live session."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from protocol.errors import (
    InvalidSourceConfig,
    LimitReached,
    SourceNotFound,
    VersionConflict,
)
from protocol.ids import SourceId
from protocol.messages.objects import SourceState
from server.engine.source import ConfigProblem
from server.session.options import SessionOptions
from server.sources.inbox import INBOX_ID
from storage import source_configs
from tests.session.conftest import ALICE, BOB, Listener, Replica, World, texts
from tests.session.providers import STAGE, Built, Gate, Stage

NEEDY = SourceId("test.needy")


async def stored(replica: Replica, source: SourceId = STAGE) -> source_configs.SourceConfigRow | None:
    return await source_configs.get(replica.database, ALICE, source)


async def test_a_patch_swaps_the_source_in_the_living_session(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE, INBOX_ID])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    state = await replica.sources.patch(ALICE, STAGE, config={"text": "bye"})
    assert state["config"] == {"text": "bye"}
    assert state["version"] == 2
    await world.eventually(lambda: texts(session) == ["bye"])
    assert replica.manager.live(ALICE) is session
    assert [source.closed for source in stage.made] == [True, False]
    assert len(stage.built) == 2


async def test_the_old_items_stay_until_the_new_source_has_answered(world: World) -> None:
    gate = Gate()
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    stage.on_fetch = lambda _: gate.pass_()
    await replica.sources.patch(ALICE, STAGE, config={"text": "bye"})
    await gate.arrived.wait()
    assert texts(session) == ["hello"]
    gate.open()
    await world.eventually(lambda: texts(session) == ["bye"])
    assert [] not in [[item.data for item in each.state.items] for each in listener.revisions]


async def test_enabling_a_disabled_source_adds_it_live_with_its_stored_config(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    session = await replica.session()
    await replica.sources.put(ALICE, STAGE, enabled=False, config={"text": "stored"})
    assert stage.built == []
    state = await replica.sources.patch(ALICE, STAGE, enabled=True)
    assert state["config"] == {"text": "stored"}
    await world.eventually(lambda: texts(session) == ["stored"])


async def test_a_patch_of_a_disabled_source_is_stored_and_touches_no_session(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    session = await replica.session()
    await replica.sources.put(ALICE, STAGE, enabled=False, config={})
    number = session.history.current.number
    await replica.sources.patch(ALICE, STAGE, config={"text": "later"})
    row = await stored(replica)
    assert row is not None
    assert row.config == {"text": "later"}
    assert stage.built == []
    assert session.history.current.number == number


async def test_disabling_a_source_takes_its_items_away_and_closes_it(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    state = await replica.sources.patch(ALICE, STAGE, enabled=False)
    assert state["status"] == "off"
    assert texts(session) == []
    await world.clock.settle()
    assert [source.closed for source in stage.made] == [True]


async def test_disabling_a_source_that_others_need_succeeds_and_blocks_them(world: World) -> None:
    needy = Stage(source_id=NEEDY, dependencies=(STAGE,))
    replica = await world.replica(Stage(), needy, defaults=[STAGE, NEEDY])
    session = await replica.session()
    assert session.source_state(NEEDY)["status"] == "active"
    state = await replica.sources.patch(ALICE, STAGE, enabled=False)
    assert state["status"] == "off"
    blocked = session.source_state(NEEDY)
    assert (blocked["status"], blocked["blockedBy"]) == ("blocked", STAGE)
    await replica.sources.patch(ALICE, STAGE, enabled=True)
    await world.eventually(lambda: session.source_state(NEEDY)["status"] == "active")


async def test_concurrent_patches_of_two_devices_lose_nothing(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    other = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    await other.session()
    patches: list[dict[str, Any]] = [{"text": "t"}, {"count": 3}, {"tags": ["x"]}, {"since": "2026-01-01"}]
    async with anyio.create_task_group() as group:
        for index, config in enumerate(patches):
            group.start_soon(_patch, (replica, other)[index % 2], config)
    row = await stored(replica)
    assert row is not None
    assert row.config == {"text": "t", "count": 3, "tags": ["x"], "since": "2026-01-01"}
    for each in (replica, other):
        await each.manager.look()
        session = each.manager.live(ALICE)
        assert session is not None
        await world.eventually(lambda s=session: texts(s) == ["t"] * 3)


async def _patch(replica: Replica, config: dict[str, Any]) -> None:
    await replica.sources.patch(ALICE, STAGE, config=config)


async def test_a_bad_config_is_refused_with_the_path_of_each_mistake_and_nothing_changes(
    world: World,
) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()
    with pytest.raises(InvalidSourceConfig) as caught:
        await replica.sources.patch(ALICE, STAGE, config={"count": -1, "nope": True})
    assert {issue.path for issue in caught.value.issues} == {("count",), ("nope",)}
    row = await stored(replica)
    assert row is not None
    assert row.version == 1
    assert len(stage.built) == 1


async def test_a_source_that_nobody_provides_is_not_found(world: World) -> None:
    replica = await world.replica(Stage())
    for call in (
        replica.sources.get_state(ALICE, "no.such"),
        replica.sources.patch(ALICE, "no.such", enabled=True),
        replica.sources.put(ALICE, "no.such", enabled=True),
        replica.sources.authorize(ALICE, "no.such", {}),
        replica.sources.delete(ALICE, "no.such"),
        replica.sources.preview(ALICE, "no.such"),
    ):
        with pytest.raises(SourceNotFound) as caught:
            await call
        assert caught.value.reason == ""


async def test_a_patch_without_a_row_says_noRow_and_makes_none(world: World) -> None:
    replica = await world.replica(Stage())
    await replica.session()
    for call in (
        replica.sources.patch(ALICE, STAGE, enabled=True),
        replica.sources.patch(ALICE, STAGE),
        replica.sources.authorize(ALICE, STAGE, {"password": "hunter22"}),
    ):
        with pytest.raises(SourceNotFound) as caught:
            await call
        assert caught.value.reason == "noRow"
    assert await stored(replica) is None


async def test_a_patch_of_nothing_only_looks_whether_the_row_is_there(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    state = await replica.sources.patch(ALICE, STAGE)
    assert state["version"] == 1
    assert session.seq == 1
    with pytest.raises(VersionConflict):
        await replica.sources.patch(ALICE, STAGE, if_version=7)


async def test_the_version_rises_across_delete_and_put(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    first = (await replica.sources.get_state(ALICE, STAGE))["version"]
    await replica.sources.delete(ALICE, STAGE)
    assert (await replica.sources.get_state(ALICE, STAGE))["version"] == 0
    again = (await replica.sources.put(ALICE, STAGE, enabled=True))["version"]
    assert isinstance(first, int)
    assert isinstance(again, int)
    assert again > first


async def test_a_conditional_write_loses_to_the_one_before_it(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    await replica.sources.patch(ALICE, STAGE, config={"text": "first"}, if_version=1)
    with pytest.raises(VersionConflict) as caught:
        await replica.sources.patch(ALICE, STAGE, config={"text": "second"}, if_version=1)
    assert caught.value.version == 2
    row = await stored(replica)
    assert row is not None
    assert row.config == {"text": "first"}
    with pytest.raises(VersionConflict):
        await replica.sources.put(ALICE, STAGE, enabled=True, if_version=0)


async def test_a_user_has_only_so_many_sources(world: World) -> None:
    replica = await world.replica(Stage(), Stage(source_id=NEEDY), options=SessionOptions(max_sources=2))
    await replica.sources.put(ALICE, STAGE, enabled=False)
    await replica.sources.put(ALICE, INBOX_ID, enabled=True)
    for verify in (False, True):
        with pytest.raises(LimitReached) as caught:
            await replica.sources.put(ALICE, NEEDY, enabled=True, verify=verify)
        assert (caught.value.limit, caught.value.max) == ("sources", 2)
    assert await stored(replica, NEEDY) is None
    await replica.sources.put(ALICE, STAGE, enabled=True)  # of those there are, any may be changed
    await replica.sources.put(BOB, NEEDY, enabled=True)
    await replica.sources.delete(ALICE, INBOX_ID)
    await replica.sources.put(ALICE, NEEDY, enabled=True)


async def test_deleting_erases_the_row_its_credentials_and_what_the_source_remembered(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    await replica.sources.authorize(ALICE, STAGE, {"password": "hunter22"})
    await replica.manager.save()
    await replica.sources.delete(ALICE, STAGE)
    assert texts(session) == []
    for table in ("user_source_config", "source_state"):
        row = await replica.database.fetch_one(f"SELECT count(*) FROM {table} WHERE source_id = $1", STAGE)
        assert row is not None
        assert row[0] == 0


async def test_deleting_what_is_not_there_is_no_mistake_and_no_write(world: World) -> None:
    replica = await world.replica(Stage())
    session = await replica.session()
    seq = session.seq
    await replica.sources.delete(ALICE, STAGE)
    assert await replica.database.differing([(ALICE, seq)]) == []


async def test_a_source_that_cannot_be_built_does_not_undo_the_write_and_the_old_one_goes_on(
    world: World,
) -> None:
    async def refuse_bad(built: Built) -> None:
        if built.config.text == "bad":
            raise ConfigProblem("there is no such thing")

    stage = Stage(on_build=refuse_bad)
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    state = await replica.sources.patch(ALICE, STAGE, config={"text": "bad"})
    assert state["status"] == "failing"
    assert state["config"] == {"text": "bad"}
    error = SourceState.read(state).error
    assert error is not None
    assert (error.code, error.message) == ("config", "there is no such thing")
    assert texts(session) == ["hello"]
    assert not stage.made[0].closed
    await replica.sources.patch(ALICE, STAGE, config={"text": "good"})
    await world.eventually(lambda: texts(session) == ["good"])
    assert session.source_state(STAGE)["status"] == "active"


async def test_a_failed_build_is_tried_again_with_growing_pauses(world: World) -> None:
    times: list[float] = []
    broken = True

    async def refuse(_: Built) -> None:
        times.append(world.clock.monotonic())
        if broken:
            raise ConfigProblem("not yet")

    replica = await world.replica(Stage(on_build=refuse), defaults=[STAGE])
    session = await replica.session()
    await world.eventually(lambda: len(times) == 5, within_s=200.0)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] >= 1.0
    assert all(later > earlier for earlier, later in zip(pauses, pauses[2:], strict=False))
    broken = False
    await world.eventually(lambda: texts(session) == ["hello"], within_s=200.0)
    assert session.source_state(STAGE)["status"] == "active"
    assert "error" not in session.source_state(STAGE)


async def test_a_build_that_hangs_is_given_up_and_shown_as_failing(world: World) -> None:
    gate = Gate()
    replica = await world.replica(Stage(on_build=lambda _: gate.pass_()), defaults=[STAGE])
    session = await replica.manager.get_or_create(ALICE)
    await world.eventually(lambda: session.source_state(STAGE)["status"] == "failing", within_s=12.0)


async def test_a_source_of_a_foreign_id_is_the_failure_of_that_source_alone(world: World) -> None:
    class Liar(Stage):
        async def source_for_user(self, *args: Any, **kwargs: Any) -> Any:
            source = await super().source_for_user(*args, **kwargs)
            source.id = "somebody.else"
            return source

    liar = Liar(source_id=NEEDY)
    replica = await world.replica(Stage(), liar, defaults=[STAGE, NEEDY])
    session = await replica.session()
    assert texts(session) == ["hello"]
    assert session.source_state(NEEDY)["status"] == "failing"
    assert liar.made[0].closed


async def test_what_is_no_source_at_all_is_the_failure_of_that_source_alone(world: World) -> None:
    class Nonsense(Stage):
        async def source_for_user(self, *args: Any, **kwargs: Any) -> Any:
            return None

    replica = await world.replica(Stage(), Nonsense(source_id=NEEDY), defaults=[STAGE, NEEDY])
    session = await replica.session()
    assert texts(session) == ["hello"]
    assert session.source_state(NEEDY)["status"] == "failing"


async def test_a_list_does_not_fail_because_one_source_cannot_say_its_actions(world: World) -> None:
    def broken() -> None:
        raise RuntimeError("no actions today")

    needy = Stage(source_id=NEEDY, on_actions=broken)
    replica = await world.replica(Stage(), needy, defaults=[STAGE, NEEDY])
    await replica.session()
    states = {s["sourceId"]: s for s in await replica.sources.list_states(ALICE, schemas=True)}
    assert states[NEEDY]["actions"] == []
    assert len(SourceState.read(states[STAGE]).actions or []) == 2


async def test_the_list_has_every_provider_and_schemas_only_where_asked_for(world: World) -> None:
    replica = await world.replica(Stage(), Stage(source_id=NEEDY), defaults=[STAGE])
    await replica.session()
    plain = [SourceState.read(each) for each in await replica.sources.list_states(ALICE)]
    assert [each.source_id for each in plain] == [STAGE, NEEDY, INBOX_ID]
    assert [(each.version, each.status) for each in plain] == [(1, "active"), (0, "off"), (0, "off")]
    assert all(each.config_schema is None for each in plain)
    full = [SourceState.read(each) for each in await replica.sources.list_states(ALICE, schemas=True)]
    assert all(each.config_schema is not None for each in full)
    assert [each.credential_schema is not None for each in full] == [True, True, False]
    assert full[0].actions is not None
    assert full[0].actions[0].input_schema is not None
    assert [each.schema_digest for each in full] == [each.schema_digest for each in plain]


async def test_a_list_of_a_user_without_a_session_comes_from_the_rows_and_makes_none(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    await replica.sources.put(BOB, STAGE, enabled=True, config={"text": "b"})
    state = SourceState.read((await replica.sources.list_states(BOB))[0])
    assert (state.status, state.config, state.version) == ("starting", {"text": "b"}, 1)
    assert replica.manager.live(BOB) is None
    assert stage.built == []


async def test_no_secret_is_in_any_state(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    answered = await replica.sources.authorize(ALICE, STAGE, {"password": "hunter22"})
    listed = await replica.sources.list_states(ALICE, schemas=True)
    assert "hunter22" not in repr((answered, listed, listener.sources))
    assert answered["hasCredentials"] is True


async def test_every_change_of_a_source_is_told_to_who_follows_the_session(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    await replica.sources.patch(ALICE, STAGE, config={"text": "new"})
    await world.eventually(lambda: texts(session) == ["new"])
    last = listener.sources[-1]
    assert (last["version"], last["config"], last["status"]) == (2, {"text": "new"}, "active")
    await replica.sources.patch(ALICE, STAGE, enabled=False)
    assert listener.sources[-1]["status"] == "off"
    await replica.sources.delete(ALICE, STAGE)
    assert listener.sources[-1]["version"] == 0
    told = len(listener.sources)
    await world.advance(600.0)
    assert len(listener.sources) == told


async def test_a_failing_source_is_told_of_and_so_is_its_recovery(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    session.listen()

    async def fail(_: object) -> None:
        raise ConfigProblem("broken upstream")

    stage.on_fetch = fail
    stage.made[0].handle.request_refresh()
    await world.eventually(lambda: session.source_state(STAGE)["status"] == "failing")
    assert listener.sources[-1]["status"] == "failing"
    assert session.history.current.state.errors[0].message == "broken upstream"
    stage.on_fetch = None
    stage.made[0].handle.request_refresh()
    await world.eventually(lambda: session.source_state(STAGE)["status"] == "active")
    assert listener.sources[-1]["status"] == "active"


async def test_who_comes_later_is_not_told_of_what_changed_before(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE, INBOX_ID])
    session = await replica.session()
    await replica.sources.patch(ALICE, STAGE, config={"text": "before"})
    await world.eventually(lambda: texts(session) == ["before"])
    listener = Listener()
    session.attach(listener)
    await replica.sources.patch(ALICE, INBOX_ID, enabled=False)
    assert {str(state["sourceId"]) for state in listener.sources} == {INBOX_ID}


async def test_a_new_time_of_the_next_attempt_alone_makes_no_revision(world: World) -> None:
    attempts = 0

    async def refuse(_: Built) -> None:
        nonlocal attempts
        attempts += 1
        raise ConfigProblem("not yet")

    replica = await world.replica(Stage(on_build=refuse), defaults=[STAGE])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    number = session.history.current.number
    before = attempts
    await world.eventually(lambda: attempts > before + 2, within_s=120.0)
    assert session.history.current.number == number
    assert listener.revisions == []
