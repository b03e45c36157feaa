"""Leaving in order: everybody is told when to go, nobody all at once, and no write is cut."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from server.push import PushOptions
from server.push.drain import drain_span_s
from tests.push.board import BOARD
from tests.push.conftest import World
from tests.push.peers import open_peer
from tests.support.clock import TestClock


@given(st.integers(0, 10**6), st.floats(0.0, 60.0), st.floats(0.0, 600.0))
def test_the_span_fits_into_the_drain_and_grows_with_the_number(
    connections: int, delay_s: float, drain_s: float
) -> None:
    options = PushOptions(drain_delay_s=delay_s, drain_s=drain_s)
    span_s = drain_span_s(options, connections)
    assert span_s >= 0.0
    assert delay_s + span_s <= max(delay_s, drain_s)
    assert drain_span_s(options, connections + 1) >= span_s


async def test_without_a_delay_everybody_leaves_at_once_and_the_drain_is_over(world: World) -> None:
    server = await world.start(options=PushOptions(drain_delay_s=0.0))
    async with (
        open_peer(server.address, server.token()) as alice,
        open_peer(server.address, server.token("bob")) as bob,
        anyio.create_task_group() as group,
    ):
        group.start_soon(server.gateway.drain)
        for peer in (alice, bob):
            close = await peer.closed()
            assert close.code == 1001
            assert peer.methods()[-1] == "server.draining"
        assert not server.gateway.ready
    assert server.gateway.statistics().draining


async def test_each_is_told_its_own_time_and_closed_then(slow_world: World) -> None:
    options = PushOptions(drain_delay_s=5.0, drain_s=60.0, reconnect_cost_s=1.0, max_connections_per_user=20)
    server = await slow_world.start(options=options)
    clock = server.clock
    assert isinstance(clock, TestClock)
    told: list[int] = []
    ended: list[float] = []
    async with anyio.create_task_group() as group, anyio.create_task_group() as clients:

        async def client() -> None:
            async with open_peer(server.address, server.token(), query="?own=0") as peer:
                told.append((await peer.next("server.draining"))["reconnectInMs"])
                assert (await peer.closed()).code == 1001
                ended.append(clock.monotonic() - began)

        for _ in range(10):
            clients.start_soon(client)
        while server.gateway.registry.count < 10:
            await anyio.lowlevel.checkpoint()
        await clock.settle(quiet_s=0.05)
        began = clock.monotonic()
        group.start_soon(server.gateway.drain)
        await clock.advance(16.0, quiet_s=0.02)
    assert len(set(told)) == 10
    assert all(5_000 <= ms <= 15_000 for ms in told)
    for ms, at in zip(sorted(told), sorted(ended), strict=True):
        assert 0 <= at - ms / 1000 <= 0.5


async def test_for_the_delay_upgrades_are_served_and_then_put_off(slow_world: World) -> None:
    server = await slow_world.start(options=PushOptions(drain_delay_s=5.0, drain_s=20.0))
    clock = server.clock
    assert isinstance(clock, TestClock)
    async with anyio.create_task_group() as group:
        group.start_soon(server.gateway.drain)
        await clock.settle(quiet_s=0.02)
        async with open_peer(server.address, server.token(), query="?own=0") as peer:
            assert (await peer.next("server.draining"))["reconnectInMs"] <= 6_000
            await clock.advance(5.0, quiet_s=0.02)
            with pytest.raises(InvalidStatus) as caught:
                async with open_peer(server.address, server.token("bob")):
                    pass
            assert caught.value.response.status_code == 503
            assert caught.value.response.headers["Retry-After"] == "1"
            async with open_peer(
                server.address, server.token("bob"), by_subprotocol=True, welcome=False
            ) as late:
                assert (await late.closed()).code == 1013


async def test_a_client_that_does_not_go_is_not_waited_for_past_the_end(slow_world: World) -> None:
    server = await slow_world.start(
        options=PushOptions(drain_delay_s=0.0, drain_s=20.0, close_timeout_s=60.0)
    )
    clock = server.clock
    assert isinstance(clock, TestClock)
    async with open_peer(server.address, server.token(), query="?own=0") as peer:
        peer.ws.transport.pause_reading()
        async with anyio.create_task_group() as group:
            group.start_soon(server.gateway.drain)
            await clock.advance(21.0, quiet_s=0.02)
        assert server.gateway.registry.sockets == 1


async def test_a_write_that_runs_is_waited_for_and_answered(world: World) -> None:
    server = await world.start(options=PushOptions(drain_delay_s=0.0))
    server.board.gate = anyio.Event()
    drained = anyio.Event()

    async def drain() -> None:
        await server.gateway.drain()
        drained.set()

    async with anyio.create_task_group() as group:
        async with open_peer(server.address, server.token()) as peer:
            await peer.next("feed.snapshot")
            say = {"sourceId": BOARD, "actionId": "say", "params": {"text": "x"}}
            await peer.send("action.execute", say, id_=1)
            while not server.board.said:
                await anyio.lowlevel.checkpoint()
            group.start_soon(drain)
            await peer.next("server.draining")
            await anyio.wait_all_tasks_blocked()
            assert not drained.is_set()
            server.board.gate.set()
            assert (await peer.reply(1))["result"] == {"result": {"said": "x"}}
            assert (await peer.closed()).code == 1001
        with anyio.fail_after(10):
            await drained.wait()
    assert server.board.finished == ["x"]


async def test_nobody_stays_by_asking_on_and_on(slow_world: World) -> None:
    server = await slow_world.start(
        options=PushOptions(drain_delay_s=0.0, drain_s=60.0, request_timeout_s=10.0)
    )
    clock = server.clock
    assert isinstance(clock, TestClock)
    async with anyio.create_task_group() as group, open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        hang = {"sourceId": BOARD, "actionId": "hang"}
        for number in range(100, 104):
            await peer.send("action.execute", hang, id_=number)
        await peer.call("source.list")
        began = clock.monotonic()
        group.start_soon(server.gateway.drain)
        await peer.next("server.draining")
        await clock.advance(9.0, quiet_s=0.02)
        for number in range(104, 108):
            await peer.send("action.execute", hang, id_=number)
        await peer.call("source.list")
        await clock.advance(4.0, quiet_s=0.02)
        assert (await peer.closed()).code == 1001
        assert clock.monotonic() - began <= 13.5
