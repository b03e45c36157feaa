from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.support.clock import TestClock, VirtualLoop


async def test_an_async_test_runs_on_the_loop_of_asyncio() -> None:
    assert type(asyncio.get_running_loop()) is asyncio.SelectorEventLoop


@pytest.mark.loop("uvloop")
async def test_a_test_can_choose_uvloop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


@pytest.mark.loop("asyncio", "uvloop")
async def test_a_test_can_run_on_several_loops(request: pytest.FixtureRequest) -> None:
    on_uvloop = isinstance(asyncio.get_running_loop(), uvloop.Loop)
    assert on_uvloop == ("uvloop" in request.node.name)


async def test_a_test_that_names_the_clock_runs_on_its_loop(clock: TestClock) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    assert clock.monotonic() == loop.time()
