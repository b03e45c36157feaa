"""`verify` and `source.preview`: a source is asked beside the running one before anything changes."""

from __future__ import annotations

import anyio
import orjson
import pytest

from protocol.errors import (
    InvalidCredentials,
    InvalidSourceConfig,
    RateLimited,
    VerificationFailed,
    VersionConflict,
)
from protocol.ids import SourceId
from server.engine.source import ConfigProblem, Unreachable
from server.session.options import SessionOptions
from server.sources.inbox import INBOX_ID
from storage import source_configs
from tests.session.conftest import ALICE, Replica, World, texts
from tests.session.providers import STAGE, Built, Gate, Stage, StageSource


async def row_of(replica: Replica) -> source_configs.SourceConfigRow | None:
    return await source_configs.get(replica.database, ALICE, STAGE)


async def test_the_source_that_was_asked_is_the_one_that_is_swapped_in(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    await replica.sources.patch(ALICE, STAGE, config={"text": "verified"}, verify=True)
    await world.eventually(lambda: texts(session) == ["verified"])
    assert len(stage.built) == 2
    assert session.source(StageSource) is stage.made[1]
    assert [source.closed for source in stage.made] == [True, False]


async def test_a_source_that_gives_no_good_answer_changes_nothing(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()

    async def fail(_: object) -> None:
        raise Unreachable("nobody there")

    stage.on_fetch = fail
    with pytest.raises(VerificationFailed) as caught:
        await replica.sources.patch(ALICE, STAGE, config={"text": "bad"}, verify=True)
    assert caught.value.reason == "nobody there"
    row = await row_of(replica)
    assert row is not None
    assert (row.version, row.config) == (1, {})
    assert texts(session) == ["hello"]
    assert session.source(StageSource) is stage.made[0]
    assert [source.closed for source in stage.made] == [False, True]


async def test_a_source_that_cannot_be_built_changes_nothing(world: World) -> None:
    async def refuse(built: Built) -> None:
        if built.config.text == "bad":
            raise ConfigProblem("no such thing")

    replica = await world.replica(Stage(on_build=refuse))
    await replica.session()
    with pytest.raises(VerificationFailed) as caught:
        await replica.sources.put(ALICE, STAGE, enabled=True, config={"text": "bad"}, verify=True)
    assert caught.value.reason == "no such thing"
    assert await row_of(replica) is None


async def test_a_bug_in_a_source_is_told_without_its_words(world: World) -> None:
    async def bug(_: object) -> None:
        raise RuntimeError("token=abc")

    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()
    stage.on_fetch = bug
    with pytest.raises(VerificationFailed) as caught:
        await replica.sources.patch(ALICE, STAGE, config={"text": "bad"}, verify=True)
    assert "abc" not in str(caught.value)


async def test_a_source_that_does_not_answer_in_time_is_given_up_and_closed(world: World) -> None:
    gate = Gate()
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    stage.on_fetch = lambda _: gate.pass_()

    async def patch() -> None:
        with pytest.raises(VerificationFailed):
            await replica.sources.patch(ALICE, STAGE, config={"text": "slow"}, verify=True)

    async with anyio.create_task_group() as group:
        group.start_soon(patch)
        await gate.arrived.wait()
        await world.advance(5.0)
    assert texts(session) == ["hello"]
    assert stage.made[1].closed


async def test_while_a_source_is_being_verified_nobody_is_kept_from_writing(world: World) -> None:
    gate = Gate()
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE, INBOX_ID])
    session = await replica.session()

    async def wait_for_slow(source: StageSource) -> None:
        if source.built.config.text == "slow":
            await gate.pass_()

    stage.on_fetch = wait_for_slow
    async with anyio.create_task_group() as group:
        group.start_soon(_verified, replica, {"text": "slow"})
        await gate.arrived.wait()
        await replica.sources.patch(ALICE, INBOX_ID, enabled=False)
        gate.open()
    await world.eventually(lambda: texts(session) == ["slow"])
    assert session.source_state(INBOX_ID)["status"] == "off"


async def _verified(replica: Replica, config: dict[str, str]) -> None:
    await replica.sources.patch(ALICE, STAGE, config=config, verify=True)


async def test_a_row_that_moved_meanwhile_is_merged_and_asked_again(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    moved = False

    async def move_once(source: StageSource) -> None:
        nonlocal moved
        if source.built.config.text == "mine" and not moved:
            moved = True
            await replica.sources.patch(ALICE, STAGE, config={"count": 2})

    stage.on_fetch = move_once
    state = await replica.sources.patch(ALICE, STAGE, config={"text": "mine"}, verify=True)
    assert state["config"] == {"text": "mine", "count": 2}
    await world.eventually(lambda: texts(session) == ["mine", "mine"])
    unused = [source for source in stage.made if not source.closed]
    assert unused == [session.source(StageSource)]


async def test_a_row_that_keeps_moving_is_a_version_conflict(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    tried = 0

    async def move(source: StageSource) -> None:
        nonlocal tried
        if source.built.config.text == "mine":
            tried += 1
            await replica.sources.patch(ALICE, STAGE, config={"count": tried})

    stage.on_fetch = move
    with pytest.raises(VersionConflict) as caught:
        await replica.sources.patch(ALICE, STAGE, config={"text": "mine"}, verify=True)
    assert tried == 4  # once, and three times again
    row = await row_of(replica)
    assert row is not None
    assert caught.value.version == row.version
    assert row.config == {"count": 4}
    assert session.source_view(STAGE).config == {"count": 4}


async def test_a_conditional_verified_write_is_not_tried_again(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()

    async def move(source: StageSource) -> None:
        if source.built.config.text == "mine":
            await replica.sources.patch(ALICE, STAGE, config={"count": 2})

    stage.on_fetch = move
    with pytest.raises(VersionConflict):
        await replica.sources.patch(ALICE, STAGE, config={"text": "mine"}, if_version=1, verify=True)
    assert [built.config.text for built in stage.built].count("mine") == 1


async def test_a_verified_write_of_a_switched_off_source_keeps_it_off_and_closes_what_was_asked(
    world: World,
) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    session = await replica.session()
    await replica.sources.put(ALICE, STAGE, enabled=False, config={"text": "later"}, verify=True)
    assert session.source_state(STAGE)["status"] == "off"
    assert [source.closed for source in stage.made] == [True]


async def test_a_verified_write_without_a_session_closes_what_was_asked(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    await replica.sources.put(ALICE, STAGE, enabled=True, config={"text": "later"}, verify=True)
    assert [source.closed for source in stage.made] == [True]
    session = await replica.session()
    assert texts(session) == ["later"]


async def test_a_preview_shows_what_would_be_and_stores_nothing(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    preview = await replica.sources.preview(ALICE, STAGE, config={"text": "maybe", "count": 2})
    assert [orjson.loads(item)["data"]["text"] for item in preview.items] == ["maybe", "maybe"]
    assert preview.errors == ()
    assert texts(session) == ["hello"]
    row = await row_of(replica)
    assert row is not None
    assert (row.version, row.config) == (1, {})
    assert [source.closed for source in stage.made] == [False, True]


async def test_a_preview_is_over_what_is_stored_and_needs_no_row(world: World) -> None:
    replica = await world.replica(Stage())
    await replica.session()
    preview = await replica.sources.preview(ALICE, STAGE)
    assert [orjson.loads(item)["data"]["text"] for item in preview.items] == ["hello"]
    await replica.sources.put(ALICE, STAGE, enabled=False, config={"count": 3})
    preview = await replica.sources.preview(ALICE, STAGE, config={"text": "x"})
    assert len(preview.items) == 3


async def test_a_preview_that_fails_answers_with_the_error(world: World) -> None:
    async def fail(_: object) -> None:
        raise Unreachable("nobody there")

    replica = await world.replica(Stage(on_fetch=fail))
    await replica.session()
    preview = await replica.sources.preview(ALICE, STAGE)
    assert preview.items == ()
    assert [(error.code, error.message) for error in preview.errors] == [("unreachable", "nobody there")]


async def test_a_preview_of_nonsense_is_refused_like_a_write_of_it(world: World) -> None:
    replica = await world.replica(Stage())
    await replica.session()
    with pytest.raises(InvalidSourceConfig):
        await replica.sources.preview(ALICE, STAGE, config={"count": "many"})
    with pytest.raises(InvalidCredentials):
        await replica.sources.preview(ALICE, STAGE, credentials={"password": 1})


async def test_a_preview_sees_the_context_of_the_other_sources(world: World) -> None:
    seen: list[object] = []
    needy_id = SourceId("test.needy")

    class Needy(Stage):
        pass

    needy = Needy(source_id=needy_id, dependencies=(STAGE,))

    async def look(source: StageSource) -> None:
        seen.append(source.id)

    needy.on_fetch = look
    replica = await world.replica(Stage(), needy, defaults=[STAGE])
    session = await replica.session()
    assert [entry.key for entry in session.history.current.state.context if entry.key[0] == STAGE]
    preview = await replica.sources.preview(ALICE, needy_id, config={"text": "n"})
    assert len(preview.items) == 1
    assert seen == [needy_id]


async def test_preview_and_verify_share_one_rate_limit_a_user(world: World) -> None:
    replica = await world.replica(
        Stage(), defaults=[STAGE], options=SessionOptions(probe_burst=2, probe_every_s=6.0)
    )
    await replica.session()
    await replica.sources.preview(ALICE, STAGE)
    await replica.sources.patch(ALICE, STAGE, config={"text": "v"}, verify=True)
    with pytest.raises(RateLimited) as caught:
        await replica.sources.preview(ALICE, STAGE)
    assert caught.value.retry_in_ms == pytest.approx(6000, abs=200)
    with pytest.raises(RateLimited):
        await replica.sources.patch(ALICE, STAGE, config={"text": "w"}, verify=True)
    await replica.sources.patch(ALICE, STAGE, config={"text": "w"})  # asks nobody, and is not counted
    await world.advance(6.1)
    await replica.sources.preview(ALICE, STAGE)
