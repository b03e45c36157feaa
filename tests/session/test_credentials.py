"""Credentials: given early or late, refused, unreadable, and never sent where they were not meant to go."""

from __future__ import annotations

import pytest

from protocol.errors import CredentialStorageUnavailable, InvalidCredentials, RateLimited
from protocol.ids import UserId
from protocol.messages.objects import SourceState
from server.engine.source import Unauthorized, Unreachable
from server.session.options import SessionOptions
from storage import source_configs
from storage.credentials import KeyRing, generate_key
from tests.session.conftest import ALICE, Replica, World, texts
from tests.session.providers import STAGE, Built, Password, Stage

GOOD = {"password": "hunter22"}


async def needs_password(built: Built) -> None:
    if built.password is None:
        raise Unauthorized("connect the account first")


async def row_of(replica: Replica) -> source_configs.SourceConfigRow:
    row = await source_configs.get(replica.database, ALICE, STAGE)
    assert row is not None
    return row


@pytest.mark.parametrize("way", ["authorize", "patch", "put"])
async def test_a_source_goes_live_as_soon_as_config_and_credentials_both_suffice(
    world: World, way: str
) -> None:
    stage = Stage(on_build=needs_password)
    replica = await world.replica(stage)
    session = await replica.session()
    state = SourceState.read(await replica.sources.put(ALICE, STAGE, enabled=True, config={"text": "mine"}))
    assert (state.status, state.has_credentials) == ("failing", False)
    match way:
        case "authorize":
            state = await replica.sources.authorize(ALICE, STAGE, GOOD)
        case "patch":
            state = await replica.sources.patch(ALICE, STAGE, credentials=GOOD)
        case _:
            state = await replica.sources.put(
                ALICE, STAGE, enabled=True, config={"text": "mine"}, credentials=GOOD
            )
    assert state["hasCredentials"] is True
    await world.eventually(lambda: texts(session) == ["mine"])
    assert stage.built[-1].password == "hunter22"


async def test_a_put_without_credentials_keeps_the_stored_ones(world: World) -> None:
    stage = Stage(on_build=needs_password)
    replica = await world.replica(stage)
    session = await replica.session()
    await replica.sources.put(ALICE, STAGE, enabled=True, config={}, credentials=GOOD)
    await replica.sources.put(ALICE, STAGE, enabled=True, config={"text": "b"})
    await world.eventually(lambda: texts(session) == ["b"])
    assert stage.built[-1].password == "hunter22"


async def test_credentials_that_are_refused_at_once_are_not_stored(world: World) -> None:
    async def refuse(_: Password) -> None:
        raise Unauthorized("wrong password")

    replica = await world.replica(Stage(on_validate=refuse), defaults=[STAGE])
    session = await replica.session()
    with pytest.raises(InvalidCredentials) as caught:
        await replica.sources.authorize(ALICE, STAGE, GOOD)
    assert caught.value.issues[0].message == "wrong password"
    assert (await row_of(replica)).credentials is None
    assert session.seq == 1


async def test_credentials_that_nobody_can_judge_now_are_stored(world: World) -> None:
    async def away(_: Password) -> None:
        raise Unreachable("the service is down")

    replica = await world.replica(Stage(on_validate=away), defaults=[STAGE])
    await replica.session()
    state = await replica.sources.authorize(ALICE, STAGE, GOOD)
    assert state["hasCredentials"] is True


async def test_credentials_that_are_only_found_bad_later_show_by_the_status(world: World) -> None:
    async def refuse(built: Built) -> None:
        if built.password is not None:
            raise Unauthorized("the account is closed")

    replica = await world.replica(Stage(on_build=refuse), defaults=[STAGE])
    session = await replica.session()
    state = SourceState.read(await replica.sources.authorize(ALICE, STAGE, GOOD))
    assert state.status == "failing"
    assert state.error is not None
    assert state.error.code == "unauthorized"
    assert (await row_of(replica)).credentials is not None
    assert texts(session) == ["hello"]  # the one that needed none goes on


async def test_credentials_against_the_schema_are_refused_with_the_path(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    with pytest.raises(InvalidCredentials) as caught:
        await replica.sources.authorize(ALICE, STAGE, {"password": "x", "user": "y"})
    assert {issue.path for issue in caught.value.issues} == {("password",), ("user",)}
    assert (await row_of(replica)).credentials is None


async def test_without_a_key_credentials_are_refused_and_nothing_is_written(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE], keys=KeyRing.empty())
    await replica.session()
    for verify in (False, True):
        with pytest.raises(CredentialStorageUnavailable):
            await replica.sources.patch(ALICE, STAGE, config={"text": "no"}, credentials=GOOD, verify=verify)
    row = await row_of(replica)
    assert (row.version, row.config, row.credentials) == (1, {}, None)
    assert len(stage.built) == 1


async def test_credentials_go_with_a_new_place_unless_new_ones_come_along(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()
    await replica.sources.authorize(ALICE, STAGE, GOOD)
    state = await replica.sources.patch(ALICE, STAGE, config={"url": "https://evil.example"})
    assert state["hasCredentials"] is False
    assert stage.built[-1].password is None
    new = {"password": "another1"}
    state = await replica.sources.patch(ALICE, STAGE, config={"url": "https://two.example"}, credentials=new)
    assert state["hasCredentials"] is True
    assert stage.built[-1].password == "another1"


async def test_preview_and_verify_do_not_send_stored_credentials_to_a_new_place(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()
    await replica.sources.authorize(ALICE, STAGE, GOOD)
    await replica.sources.preview(ALICE, STAGE, config={"text": "same place"})
    assert stage.built[-1].password == "hunter22"
    await replica.sources.preview(ALICE, STAGE, config={"url": "https://evil.example"})
    assert stage.built[-1].password is None
    await replica.sources.patch(ALICE, STAGE, config={"url": "https://evil.example"}, verify=True)
    assert stage.built[-1].password is None
    assert (await row_of(replica)).credentials is None


async def test_unreadable_credentials_fail_that_source_alone_and_leave_the_row(world: World) -> None:
    other_ring = KeyRing.parse(generate_key("other"))
    stranger = await world.replica(Stage(), defaults=[STAGE], keys=other_ring)
    await stranger.session()
    await stranger.sources.authorize(ALICE, STAGE, GOOD)
    sealed = (await row_of(stranger)).credentials
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    state = SourceState.read(session.source_state(STAGE))
    assert state.status == "failing"
    assert state.error is not None
    assert (state.error.code, state.error.message) == (
        "unauthorized",
        "credentials can't be read; connect again",
    )
    assert (await row_of(replica)).credentials == sealed
    await replica.sources.authorize(ALICE, STAGE, GOOD)
    await world.eventually(lambda: texts(session) == ["hello"])


async def test_credentials_moved_to_another_row_do_not_open(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    await replica.sources.authorize(ALICE, STAGE, GOOD)
    await replica.database.run("INSERT INTO users (user_id, seq, defaults_at) VALUES ('mallory', 1, now())")
    await replica.database.run(
        "INSERT INTO user_source_config (user_id, source_id, enabled, config, credentials, version)"
        " SELECT 'mallory', source_id, enabled, config, credentials, 1 FROM user_source_config"
        " WHERE user_id = 'alice' AND source_id = 'test.stage'"
    )
    mallory = await replica.session(UserId("mallory"))
    assert mallory.source_state(STAGE)["status"] == "failing"


async def test_asking_whether_credentials_are_good_counts_against_the_rate_limit(world: World) -> None:
    async def fine(_: Password) -> None:
        return

    options = SessionOptions(probe_burst=2)
    replica = await world.replica(Stage(on_validate=fine), defaults=[STAGE], options=options)
    await replica.session()
    await replica.sources.authorize(ALICE, STAGE, GOOD)
    await replica.sources.authorize(ALICE, STAGE, GOOD)
    with pytest.raises(RateLimited):
        await replica.sources.authorize(ALICE, STAGE, GOOD)
