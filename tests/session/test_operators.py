"""What operators do: revoke and delete users, replace providers' settings."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio
import orjson
import pytest

from protocol.errors import CredentialStorageUnavailable, InvalidParams, SourceNotFound
from protocol.ids import UserId
from protocol.messages.provider import ProviderState
from server.engine.source import ConfigProblem
from server.session.options import SessionOptions
from server.session.providers import Replaced
from server.sources.inbox import INBOX_ID
from storage.credentials import KeyRing, generate_key
from tests.session.conftest import ALICE, BOB, Listener, Replica, World
from tests.session.providers import STAGE, Built, Gate, Stage, StageSettings


def settings_of(replica: Replica, user: UserId = ALICE) -> list[object]:
    session = replica.manager.live(user)
    assert session is not None
    return [item.data.get("settings") for item in session.history.current.state.items]


class Sockets:
    """Stands for the connections of one replica."""

    def __init__(self, replica: Replica) -> None:
        self.told: list[tuple[UserId, datetime]] = []
        replica.manager.operator.watch_revocations(self.close)

    def close(self, user: UserId, before: datetime) -> int:
        self.told.append((user, before))
        return 3


async def test_a_revocation_is_felt_at_once_here_and_soon_on_every_replica(world: World) -> None:
    replica, other = await world.replica(), await world.replica()
    sockets, far = Sockets(replica), Sockets(other)
    now = world.clock.now()
    assert await replica.users.revoke(ALICE) == 3
    assert replica.manager.revoked(ALICE, now - timedelta(seconds=1))
    assert not replica.manager.revoked(ALICE, world.clock.now() + timedelta(seconds=1))
    assert not replica.manager.revoked(BOB, now - timedelta(days=1))
    await world.eventually(lambda: bool(far.told), within_s=1.0)
    assert other.manager.revoked(ALICE, now - timedelta(seconds=1))
    assert [user for user, _ in sockets.told] == [ALICE]
    late = await world.replica()
    assert late.manager.revoked(ALICE, now - timedelta(seconds=1))


async def test_a_revocation_reaches_a_replica_without_the_bus_within_one_look(world: World) -> None:
    replica, other = await world.replica(), await world.replica()
    other.bus.cut()
    await world.quiet()
    await replica.users.revoke(ALICE)
    await world.eventually(
        lambda: other.manager.revoked(ALICE, world.clock.now() - timedelta(hours=1)),
        within_s=3.0,
    )


async def test_an_earlier_time_takes_no_revocation_back(world: World) -> None:
    replica = await world.replica()
    now = world.clock.now()
    await replica.users.revoke(ALICE, now)
    await replica.users.revoke(ALICE, now - timedelta(days=1))
    assert replica.manager.revoked(ALICE, now - timedelta(minutes=1))


async def test_a_store_that_lost_its_last_writes_takes_revocations_back_with_it(world: World) -> None:
    """Tokens are refused for as long as the store says so: two replicas must not differ in it for good."""
    replica = await world.replica()
    old = world.clock.now() - timedelta(hours=1)
    await replica.users.revoke(BOB)
    await replica.users.revoke(ALICE)
    await replica.database.run("DELETE FROM revocations WHERE user_id = $1", ALICE)
    await replica.database.run("UPDATE global_seq SET seq = 1")
    await replica.manager.look()
    assert not replica.manager.revoked(ALICE, old)
    assert replica.manager.revoked(BOB, old)


async def test_deleting_a_user_erases_everything_and_ends_the_sessions_everywhere(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE, INBOX_ID])
    other = await world.replica(Stage(), defaults=[STAGE, INBOX_ID])
    here, there = Listener(), Listener()
    (await replica.session()).attach(here)
    (await other.session()).attach(there)
    await replica.users.delete(ALICE)
    assert here.closed == ["gone"]
    assert replica.manager.live(ALICE) is None
    await world.eventually(lambda: there.closed == ["gone"], within_s=1.0)
    for table in ("users", "user_source_config", "source_state"):
        row = await replica.database.fetch_one(f"SELECT count(*) FROM {table}")
        assert row is not None
        assert row[0] == 0


async def test_deleting_nobody_is_no_mistake(world: World) -> None:
    replica = await world.replica()
    await replica.users.delete(UserId("nobody"))
    row = await replica.database.fetch_one("SELECT count(*) FROM users")
    assert row is not None
    assert row[0] == 0


async def test_new_settings_reach_every_live_session_on_every_replica(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    other = await world.replica(Stage(), defaults=[STAGE])
    for user in (ALICE, BOB):
        await replica.session(user)
    await other.session()
    counts = await replica.providers.replace(STAGE, {"apiKey": "key-2"})
    assert (counts.refreshed, counts.kept) == (2, 0)
    for each, user in ((replica, ALICE), (replica, BOB), (other, ALICE)):
        await world.eventually(lambda e=each, u=user: settings_of(e, u) == ["key-2"])
    late = await world.replica(Stage(), defaults=[STAGE])
    await late.session()
    assert settings_of(late) == ["key-2"]


async def test_new_settings_are_stored_sealed(world: World) -> None:
    replica = await world.replica(Stage())
    await replica.providers.replace(STAGE, {"apiKey": "very-secret"})
    row = await replica.database.fetch_one("SELECT settings FROM provider_settings")
    assert row is not None
    assert b"very-secret" not in row[0]
    assert "very-secret" not in repr(replica.providers.list_states())


async def test_a_creation_in_flight_ends_with_the_new_settings(world: World) -> None:
    gate = Gate()
    stage = Stage(on_build=lambda _: gate.pass_())
    replica = await world.replica(stage, defaults=[STAGE], options=SessionOptions(build_timeout_s=600.0))
    async with anyio.create_task_group() as group:
        group.start_soon(replica.manager.get_or_create, ALICE)
        await gate.arrived.wait()
        stage.on_build = None
        await replica.providers.replace(STAGE, {"apiKey": "key-2"})
        gate.open()
    await world.eventually(lambda: settings_of(replica) == ["key-2"])


async def test_the_counts_of_a_replacement_wait_for_the_sources_to_be_built(world: World) -> None:
    gate = Gate()

    async def wait(built: Built) -> None:
        if built.settings == "key-2":
            await gate.pass_()

    replica = await world.replica(Stage(on_build=wait), defaults=[STAGE])
    await replica.session()
    counts: list[Replaced] = []

    async def replace() -> None:
        counts.append(await replica.providers.replace(STAGE, {"apiKey": "key-2"}))

    async with anyio.create_task_group() as group:
        group.start_soon(replace)
        await gate.arrived.wait()
        await world.quiet()
        assert counts == []
        gate.open()
    assert counts == [Replaced(1, 0)]


async def test_who_cannot_be_rebuilt_keeps_the_old_source_and_who_failed_before_may_gain_one(
    world: World,
) -> None:
    async def picky(built: Built) -> None:
        if built.user == ALICE and built.settings == "key-2":
            raise ConfigProblem("not with this key")
        if built.user == BOB and built.settings is None:
            raise ConfigProblem("needs a key")

    stage = Stage(on_build=picky)
    replica = await world.replica(stage, defaults=[STAGE])
    alice = await replica.session()
    bob = await replica.session(BOB)
    assert bob.source_state(STAGE)["status"] == "failing"
    counts = await replica.providers.replace(STAGE, {"apiKey": "key-2"})
    assert (counts.refreshed, counts.kept) == (1, 1)
    assert settings_of(replica) == [None]
    assert alice.source_state(STAGE)["status"] == "failing"
    await world.eventually(lambda: settings_of(replica, BOB) == ["key-2"])


async def test_a_switched_off_source_stays_off(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage)
    session = await replica.session()
    await replica.sources.put(ALICE, STAGE, enabled=False)
    counts = await replica.providers.replace(STAGE, {"apiKey": "key-2"})
    assert (counts.refreshed, counts.kept) == (0, 0)
    assert session.source_state(STAGE)["status"] == "off"
    assert stage.built == []


async def test_stored_settings_win_over_the_environment_and_the_list_says_which_hold(world: World) -> None:
    environment = {STAGE: StageSettings.model_validate({"apiKey": "from-env"})}
    replica = await world.replica(Stage(), defaults=[STAGE], environment=dict(environment))
    await replica.session()
    assert settings_of(replica) == ["from-env"]
    state, inbox = [ProviderState.read(each) for each in replica.providers.list_states()]
    assert (state.settings, inbox.settings) == ("environment", "none")
    await replica.providers.replace(STAGE, {"apiKey": "stored"})
    state = ProviderState.read(replica.providers.list_states()[0])
    assert state.settings == "stored"
    assert state.version > 0
    assert state.settings_schema is not None


async def test_settings_that_do_not_open_leave_those_of_the_environment_in_force(world: World) -> None:
    stranger = await world.replica(Stage(), keys=KeyRing.parse(generate_key("other")))
    await stranger.providers.replace(STAGE, {"apiKey": "stored"})
    environment = {STAGE: StageSettings.model_validate({"apiKey": "from-env"})}
    replica = await world.replica(Stage(), defaults=[STAGE], environment=dict(environment))
    await replica.session()
    assert settings_of(replica) == ["from-env"]
    (state, *_) = replica.providers.list_states()
    assert state["settings"] == "environment"
    assert "can't be read" in orjson.dumps(state).decode()


async def test_bad_settings_are_refused_and_change_nothing(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()
    with pytest.raises(InvalidParams) as caught:
        await replica.providers.replace(STAGE, {"apiKey": "x", "more": 1})
    assert {issue.path for issue in caught.value.issues} == {("settings", "apiKey"), ("settings", "more")}
    with pytest.raises(InvalidParams):
        await replica.providers.replace(INBOX_ID, {})
    with pytest.raises(SourceNotFound):
        await replica.providers.replace("no.such", {})
    assert len(stage.built) == 1


async def test_without_a_key_settings_are_refused(world: World) -> None:
    replica = await world.replica(Stage(), keys=KeyRing.empty())
    with pytest.raises(CredentialStorageUnavailable):
        await replica.providers.replace(STAGE, {"apiKey": "key-2"})


async def test_a_provider_that_chokes_on_its_settings_hurts_nobody(world: World) -> None:
    class Choking(Stage):
        def configure(self, settings: StageSettings | None) -> None:
            raise RuntimeError("no")

    replica = await world.replica(Choking(), defaults=[STAGE])
    await replica.session()
    await replica.providers.replace(STAGE, {"apiKey": "key-2"})
