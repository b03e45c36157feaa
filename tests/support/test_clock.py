from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from anyio.abc import SocketAttribute
from hypothesis import given
from hypothesis import strategies as st

from tests.support.clock import START, TestClock


async def test_a_long_sleep_ends_as_the_clock_passes_it_and_not_before(clock: TestClock) -> None:
    woken: list[datetime] = []

    async def sleeper() -> None:
        await anyio.sleep(30)
        woken.append(clock.now())

    async with anyio.create_task_group() as group:
        group.start_soon(sleeper)
        await clock.advance(29.999)
        assert woken == []
        await clock.advance(1)
        assert woken == [START + timedelta(seconds=30)]


async def test_a_deadline_passes_without_waiting_for_it(clock: TestClock) -> None:
    timed_out = anyio.Event()

    async def patient() -> None:
        with anyio.move_on_after(3600) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        timed_out.set()

    async with anyio.create_task_group() as group:
        group.start_soon(patient)
        before = time.monotonic()
        await clock.advance(3600)
        assert timed_out.is_set()
        assert time.monotonic() - before < 3600


async def test_timers_set_by_timers_fire_in_their_order_within_one_advance(clock: TestClock) -> None:
    fired: list[tuple[str, float]] = []
    zero = clock.monotonic()

    def note(name: str) -> None:
        fired.append((name, round(clock.monotonic() - zero, 6)))

    def first() -> None:
        note("first")
        clock.call_later(5, lambda: note("third"))

    clock.call_later(10, first)
    clock.call_later(12, lambda: note("second"))
    clock.call_later(16, lambda: note("too late"))
    await clock.advance(15)
    assert fired == [("first", 10), ("second", 12), ("third", 15)]


async def test_a_cancelled_timer_does_not_fire(clock: TestClock) -> None:
    fired: list[str] = []
    clock.call_later(1, lambda: fired.append("no")).cancel()
    await clock.advance(2)
    assert fired == []


async def test_tasks_run_to_their_next_wait_at_every_step(clock: TestClock) -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    seen: list[tuple[int, float]] = []
    zero = clock.monotonic()

    async def produce() -> None:
        async with send:
            for number in range(3):
                await anyio.sleep(10)
                await send.send(number)

    async def consume() -> None:
        async with receive:
            async for number in receive:
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
                seen.append((number, clock.monotonic() - zero))

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        group.start_soon(consume)
        await clock.advance(25)
        assert seen == [(0, 10), (1, 20)]
        await clock.advance(5)
        assert seen == [(0, 10), (1, 20), (2, 30)]


async def test_settling_lets_tasks_run_and_leaves_the_time_alone(clock: TestClock) -> None:
    event = anyio.Event()

    async def chain() -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        event.set()

    async with anyio.create_task_group() as group:
        group.start_soon(chain)
        await clock.settle()
        assert event.is_set()
        assert clock.now() == START


async def test_real_sockets_work_while_the_time_stands_still(clock: TestClock) -> None:
    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            with anyio.fail_after(5):
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
        group.cancel_scope.cancel()
    assert clock.now() == START


async def test_what_arrives_from_outside_is_handled_before_a_step_that_waits_for_quiet(
    clock: TestClock,
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        async with await anyio.abc.SocketStream.from_socket(ours) as stream:
            answered: list[bytes] = []

            async def ask() -> None:
                with anyio.fail_after(2):
                    answered.append(await stream.receive())

            def answer() -> None:
                theirs.sendall(b"in time")

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                group.start_soon(anyio.to_thread.run_sync, answer)
                await clock.advance(60, quiet_s=0.2)
            assert answered == [b"in time"]


async def test_a_very_short_wait_is_waited_for_and_moves_the_clock_by_itself(clock: TestClock) -> None:
    await anyio.sleep(0.01)
    assert clock.now() == START + timedelta(seconds=0.01)


async def test_waiting_for_a_condition_stops_at_the_timer_that_makes_it_true(clock: TestClock) -> None:
    fired: list[int] = []
    for delay_s in (10, 20, 30):
        clock.call_later(delay_s, lambda delay_s=delay_s: fired.append(delay_s))
    await clock.advance_until(lambda: len(fired) == 2)
    assert clock.now() == START + timedelta(seconds=20)
    with pytest.raises(AssertionError, match="within 15 s"):
        await clock.advance_until(lambda: len(fired) == 4, limit_s=15)
    assert fired == [10, 20, 30]


async def test_the_wall_clock_can_jump_without_the_timers(clock: TestClock) -> None:
    fired: list[str] = []
    clock.call_later(10, lambda: fired.append("timer"))
    clock.shift_wall(-3600)
    assert clock.now() == START - timedelta(hours=1)
    await clock.advance(10)
    assert fired == ["timer"]


async def test_an_advance_given_up_leaves_the_clock_usable(clock: TestClock) -> None:
    with anyio.CancelScope() as scope:
        clock.call_later(5, scope.cancel)
        await clock.advance(60)
    assert scope.cancelled_caught
    assert clock.now() == START + timedelta(seconds=5)
    await clock.advance(1)
    assert clock.now() == START + timedelta(seconds=6)


@pytest.mark.loop("virtual")
@given(steps=st.lists(st.floats(min_value=0, max_value=1e6), max_size=20))
async def test_every_example_of_a_property_starts_on_a_clock_of_its_own(steps: list[float]) -> None:
    clock = TestClock(datetime(2026, 1, 1, tzinfo=UTC))
    for step in steps:
        await clock.advance(step)
    passed = (clock.now() - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()
    assert passed == pytest.approx(sum(steps), abs=1e-3)
