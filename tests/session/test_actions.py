from __future__ import annotations

from datetime import date
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from protocol.errors import (
    ActionFailed,
    InvalidParams,
    SourceNotFound,
    SourceNotRunning,
    TimedOut,
    UnknownAction,
)
from protocol.frozen import JsonValue
from protocol.ids import SourceId
from server.engine.source import Unreachable
from tests.session.conftest import ALICE, Replica, World
from tests.session.providers import STAGE, Gate, GreetParams, Stage

KEY = "0b5e6a52-6f0a-4a6d-9a3e-2f1c33a4e7d1"


async def greet(replica: Replica, key: str | None = None, **params: JsonValue) -> JsonValue:
    given: dict[str, JsonValue] = {"name": "Ada", **params}
    return await replica.actions.execute(ALICE, STAGE, "greet", given, key)


async def test_an_action_is_done_by_the_running_source_and_its_answer_returned(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    assert await greet(replica) == {"count": 1}
    assert await replica.actions.execute(ALICE, STAGE, "plain") == {"count": 2}
    assert [name for name, _ in stage.made[0].greeted] == ["greet", "plain"]


async def test_input_is_checked_and_typed_before_the_source_sees_it(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    await greet(replica, on="2026-03-02")
    (_, given) = stage.made[0].greeted[0]
    assert given == GreetParams(name="Ada", on=date(2026, 3, 2))


async def test_bad_input_is_refused_with_its_path_and_the_source_never_sees_it(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    with pytest.raises(InvalidParams) as caught:
        await greet(replica, on="yesterday", loud=True)
    assert {issue.path for issue in caught.value.issues} == {("params", "on"), ("params", "loud")}
    nonsenses: list[JsonValue] = [[], "text", 7]
    for nonsense in nonsenses:
        with pytest.raises(InvalidParams):
            await replica.actions.execute(ALICE, STAGE, "greet", nonsense)
    with pytest.raises(InvalidParams):
        await replica.actions.execute(ALICE, STAGE, "plain", {"unasked": 1})
    assert stage.made[0].greeted == []


async def test_what_is_not_there_or_not_running_is_told_apart(world: World) -> None:
    needy = SourceId("test.needy")
    replica = await world.replica(Stage(), Stage(source_id=needy, dependencies=(STAGE,)), defaults=[needy])
    await replica.manager.get_or_create(ALICE)
    with pytest.raises(SourceNotFound):
        await replica.actions.execute(ALICE, "no.such", "greet")
    with pytest.raises(SourceNotRunning) as off:
        await replica.actions.execute(ALICE, STAGE, "greet")
    assert off.value.status == "off"
    with pytest.raises(SourceNotRunning) as blocked:
        await replica.actions.execute(ALICE, needy, "greet")
    assert blocked.value.status == "blocked"
    await replica.sources.put(ALICE, STAGE, enabled=True)
    with pytest.raises(UnknownAction) as unknown:
        await replica.actions.execute(ALICE, STAGE, "dance")
    assert unknown.value.action_id == "dance"


async def test_a_source_that_is_still_being_built_says_that_it_is_starting(world: World) -> None:
    gate = Gate()
    replica = await world.replica(Stage(on_build=lambda _: gate.pass_()), defaults=[STAGE])
    await replica.manager.get_or_create(ALICE)
    with pytest.raises(SourceNotRunning) as caught:
        await greet(replica)
    assert caught.value.status == "starting"
    assert caught.value.temporary


async def test_a_failing_action_says_why_in_the_sources_own_safe_words(world: World) -> None:
    async def fail(action: str, params: BaseModel | None) -> JsonValue:
        if action == "greet":
            raise Unreachable("nobody home", retry_after_s=2.5)
        raise RuntimeError("token=abc")

    replica = await world.replica(Stage(on_action=fail), defaults=[STAGE])
    with pytest.raises(ActionFailed) as told:
        await greet(replica)
    assert (told.value.reason, told.value.retry_in_ms) == ("nobody home", 2500)
    with pytest.raises(ActionFailed) as hidden:
        await replica.actions.execute(ALICE, STAGE, "plain")
    assert "abc" not in str(hidden.value)


async def test_an_answer_that_cannot_be_sent_is_a_failed_action(world: World) -> None:
    async def answer(action: str, params: BaseModel | None) -> Any:
        return object() if action == "greet" else "x" * 300_000

    replica = await world.replica(Stage(on_action=answer), defaults=[STAGE])
    with pytest.raises(ActionFailed):
        await greet(replica)
    with pytest.raises(ActionFailed):
        await replica.actions.execute(ALICE, STAGE, "plain")


async def test_an_action_that_hangs_times_out(world: World) -> None:
    gate = Gate()

    async def hang(action: str, params: BaseModel | None) -> JsonValue:
        await gate.pass_()

    replica = await world.replica(Stage(on_action=hang), defaults=[STAGE])
    await replica.session()

    async def ask() -> None:
        with pytest.raises(TimedOut):
            await greet(replica)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await gate.arrived.wait()
        await world.advance(10.0)


async def test_a_repeat_with_the_same_key_gets_the_first_answer_on_any_replica(world: World) -> None:
    stage, mirror = Stage(), Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    other = await world.replica(mirror, defaults=[STAGE])
    assert await greet(replica, KEY) == {"count": 1}
    assert await greet(replica, KEY) == {"count": 1}
    assert await greet(other, KEY) == {"count": 1}
    assert await greet(replica, "another-key") == {"count": 2}
    await other.session()
    assert len(stage.made[0].greeted) == 2
    assert mirror.made[0].greeted == []


async def test_two_at_once_with_one_key_do_it_once(world: World) -> None:
    gate = Gate()
    done = 0

    async def slow(action: str, params: BaseModel | None) -> JsonValue:
        nonlocal done
        await gate.pass_()
        done += 1
        return done

    replica = await world.replica(Stage(on_action=slow), defaults=[STAGE])
    await replica.session()
    answers: list[JsonValue] = []

    async def ask() -> None:
        answers.append(await greet(replica, KEY))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await gate.arrived.wait()
        with pytest.raises(TimedOut) as caught:
            await greet(replica, KEY)
        assert caught.value.outcome == "unknown"
        gate.open()
    assert answers == [1]
    assert await greet(replica, KEY) == 1
    assert done == 1


async def test_an_action_that_failed_may_be_tried_again_with_its_key(world: World) -> None:
    broken = True

    async def maybe(action: str, params: BaseModel | None) -> JsonValue:
        if broken:
            raise Unreachable("not now")
        return "done"

    replica = await world.replica(Stage(on_action=maybe), defaults=[STAGE])
    with pytest.raises(ActionFailed):
        await greet(replica, KEY)
    broken = False
    assert await greet(replica, KEY) == "done"


async def test_a_client_that_goes_away_in_the_middle_finds_its_answer_when_it_is_back(world: World) -> None:
    gate = Gate()

    async def slow(action: str, params: BaseModel | None) -> JsonValue:
        await gate.pass_()
        return "done once"

    stage = Stage(on_action=slow)
    replica = await world.replica(stage, defaults=[STAGE])
    await replica.session()
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:
            await greet(replica, KEY)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await gate.arrived.wait()
        scope.cancel()
        gate.open()
    assert await greet(replica, KEY) == "done once"
    assert len(stage.made[0].greeted) == 1


async def test_null_is_an_answer_that_is_kept(world: World) -> None:
    calls = 0

    async def nothing(action: str, params: BaseModel | None) -> JsonValue:
        nonlocal calls
        calls += 1
        return None

    replica = await world.replica(Stage(on_action=nothing), defaults=[STAGE])
    assert await greet(replica, KEY) is None
    assert await greet(replica, KEY) is None
    assert calls == 1


async def test_an_action_of_a_source_that_fails_to_refresh_still_works(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()

    async def fail(_: object) -> None:
        raise Unreachable("down")

    stage.on_fetch = fail
    stage.made[0].handle.request_refresh()
    await world.eventually(lambda: session.source_state(STAGE)["status"] == "failing")
    assert await greet(replica) == {"count": 1}
