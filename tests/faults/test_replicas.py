"""Two real servers beside each other: what one of them is asked or told holds for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
import pytest
from anyio import fail_after

from protocol.client import LiveFeed, Status, connect
from protocol.closing import CloseCode
from protocol.frozen import JsonObject
from protocol.ids import UserId
from tests.faults.town import Replica, Town, open_town
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer

ALICE, OPERATOR = UserId("alice"), UserId("operator")
PATIENCE_S = 40.0


@pytest.fixture
async def town(
    postgres: PostgresServer, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> AsyncGenerator[Town]:
    async with open_town(
        postgres, redis_server, database_url, tmp_path, rng=Random(1), replicas=2, FREYA_LOG_LEVEL="info"
    ) as town:
        yield town


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    with fail_after(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 -- it is another process that changes
            await anyio.sleep(0.05)


def _url(replica: Replica) -> str:
    return f"ws://127.0.0.1:{replica.port}"


async def _page(replica: Replica, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{replica.port}{path}", timeout=PATIENCE_S)


async def _inspected(operator: LiveFeed) -> dict[str, Any]:
    answer: Any = await operator.call("user.inspect", {"user": ALICE})
    return answer


@pytest.mark.timeout(240)
async def test_an_operator_on_one_replica_sees_and_closes_what_is_on_the_other(town: Town) -> None:
    here, there = town.replicas
    figures: list[JsonObject] = []

    def heard(method: str, params: JsonObject) -> None:
        if method == "stats.update":
            figures.append(params)

    async with (
        connect(_url(there), town.token(ALICE), client="phone") as phone,
        connect(_url(here), town.token(OPERATOR), own=False, on_notification=heard) as operator,
    ):
        with fail_after(PATIENCE_S):
            await phone.wait_status(Status.LIVE)

        async def both_answer() -> bool:
            return len((await _inspected(operator))["replicas"]) == 2

        await _until(both_answer)
        answer = await _inspected(operator)
        connections = [each["client"] for view in answer["replicas"] for each in view["connections"]]
        assert connections == ["phone"]
        assert answer["unreachable"] == []

        await operator.call("stats.subscribe", {"everyMs": 250})

        async def added_up() -> bool:
            return any(each["replicas"] == 2 and each["connections"] == 2 for each in figures)

        await _until(added_up)

        there.freeze()
        try:
            answer = await _inspected(operator)
            assert len(answer["replicas"]) == 1
            assert len(answer["unreachable"]) == 1
        finally:
            there.thaw()

        await operator.call("user.revoke", {"user": ALICE})
        with fail_after(PATIENCE_S):
            await phone.wait_status(Status.STOPPED)
        assert phone.last_end is not None
        assert phone.last_end.code == CloseCode.REVOKED


@pytest.mark.timeout(240)
async def test_without_redis_replicas_say_so_and_still_agree(town: Town) -> None:
    here, there = town.replicas
    statuses: list[object] = []
    beats: list[object] = []

    def heard(method: str, params: JsonObject) -> None:
        if method == "server.status":
            statuses.append(params.get("degraded"))
        if method == "connection.beat":
            beats.append(params.get("degraded"))

    async with (
        connect(_url(here), town.token(ALICE), heartbeat_ms=5_000, on_notification=heard) as feed,
        connect(_url(there), town.token(ALICE), own=False) as backend,
    ):
        with fail_after(PATIENCE_S):
            await feed.wait_status(Status.LIVE)
        town.redis.kill()

        async def told() -> bool:
            return ["redis"] in statuses and ["redis"] in beats

        await _until(told)
        ready = await _page(here, "/readyz")
        assert ready.status_code == 200
        assert ready.json()["degraded"] == ["redis"]
        assert "freya_bus_healthy 0.0" in (await _page(here, "/metrics")).text

        await backend.publish(ALICE, [{"id": "a", "type": "note", "data": {"text": "by look"}}])

        async def shown() -> bool:
            items = () if feed.state is None else feed.state.items
            return any(item.data.get("text") == "by look" for item in items)

        await _until(shown)

        town.redis.start()

        async def well_again() -> bool:
            return statuses[-1] == [] and (await _page(here, "/readyz")).json()["degraded"] == []

        await _until(well_again)
        lines = here.server.lines
        assert sum('"event":"degraded"' in line for line in lines) == 1
        assert sum('"event":"well_again"' in line for line in lines) == 1


@pytest.mark.timeout(240)
async def test_a_server_may_start_without_redis_where_that_is_allowed_and_joins_when_it_comes(
    postgres: PostgresServer, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.kill()
    async with open_town(
        postgres, redis_server, database_url, tmp_path, rng=Random(1), replicas=1, FREYA_REDIS_REQUIRED="0"
    ) as town:
        (replica,) = town.replicas

        async def degraded() -> bool:
            return (await _page(replica, "/readyz")).json()["degraded"] == ["redis"]

        await _until(degraded)
        redis_server.start()

        async def well() -> bool:
            return (await _page(replica, "/readyz")).json()["degraded"] == []

        await _until(well)
