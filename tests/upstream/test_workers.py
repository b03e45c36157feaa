"""Work in processes of its own."""

from __future__ import annotations

import os
import signal
import time
from hashlib import blake2b

import anyio
import psutil
import pytest

from server.engine.source import BadAnswer
from server.upstream.workers import Workers


def whoami(word: str) -> tuple[int, str]:
    return os.getpid(), word


def measure(body: bytes, word: str) -> tuple[int, str]:
    assert word == "x"
    return len(body), blake2b(body).hexdigest()


def refuse(word: str) -> None:
    raise ValueError(word)


def forever() -> None:
    while True:
        time.sleep(3600)


def swallow() -> int:
    return len(bytearray(4 * 1024**3))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def niceness() -> int:
    return os.nice(0)


def children() -> int:
    return len(psutil.Process().children())


async def test_work_is_done_in_another_process_which_is_used_again() -> None:
    workers = Workers()
    first, second = [await workers.run("It", whoami, word) for word in ("a", "b")]
    assert first[0] == second[0] != os.getpid()
    assert (first[1], second[1]) == ("a", "b")
    assert await workers.run("It", niceness) > os.nice(0)
    assert (workers.statistics().runs, workers.statistics().under_way) == (3, 0)


async def test_long_arguments_arrive_as_they_were() -> None:
    body = os.urandom(3000) * 1000
    length, same = await Workers().run("It", measure, body, "x")
    assert (length, same) == (3_000_000, blake2b(body).hexdigest())


async def test_what_the_work_raises_comes_back() -> None:
    with pytest.raises(ValueError, match="no calendar"):
        await Workers().run("It", refuse, "no calendar")


async def test_work_that_never_ends_is_ended() -> None:
    workers = Workers(timeout_s=2.0)
    before = children()
    with pytest.raises(BadAnswer) as caught:
        await workers.run("The calendar", forever)
    assert caught.value.message == "The calendar takes too long to read"
    assert children() <= before
    # With more patience: the processes are everybody's, and this one has to be begun anew.
    assert (await Workers().run("It", whoami, "next"))[1] == "next"


async def test_work_that_wants_too_much_memory_is_refused() -> None:
    workers = Workers()
    with pytest.raises(BadAnswer) as caught:
        await workers.run("The feed", swallow)
    assert caught.value.message == "The feed takes too much to read"
    assert (await workers.run("It", whoami, "next"))[1] == "next"


async def test_a_process_that_dies_costs_its_own_work_alone() -> None:
    workers = Workers()
    with pytest.raises(BadAnswer):
        await workers.run("It", die)
    assert (await workers.run("It", whoami, "next"))[1] == "next"
    assert workers.statistics().failures == 1


async def test_a_process_that_died_while_it_waited_costs_nothing() -> None:
    workers = Workers()
    waiting, _ = await workers.run("It", whoami, "first")
    os.kill(waiting, signal.SIGKILL)
    another, word = await workers.run("It", whoami, "second")
    assert (word, workers.statistics().failures) == ("second", 0)
    assert another != waiting


async def test_who_leaves_takes_the_process_along() -> None:
    workers = Workers(at_once=1)
    await workers.run("It", whoami, "warm")
    async with anyio.create_task_group() as group:
        group.start_soon(workers.run, "It", forever)
        await anyio.wait_all_tasks_blocked()
        assert workers.statistics().under_way == 1
        group.cancel_scope.cancel()
    assert (await workers.run("It", whoami, "next"))[1] == "next"


async def test_no_more_processes_than_allowed_are_at_work() -> None:
    workers = Workers(at_once=1)
    pids = set[int]()

    async def run() -> None:
        pids.add((await workers.run("It", whoami, "x"))[0])

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(run)
    assert len(pids) == 1
