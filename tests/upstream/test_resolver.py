"""Names that nobody answers for stop nobody else."""

from __future__ import annotations

import socket
from threading import Event

import anyio
import pytest

from server.upstream.resolver import SystemResolver


async def test_names_and_odd_notations_are_looked_up_by_the_system() -> None:
    resolve = SystemResolver()
    assert "127.0.0.1" in [str(address) for address in await resolve("localhost", 80)]
    assert [str(address) for address in await resolve("2130706433", 80)] == ["127.0.0.1"]
    assert resolve.busy == 0


@pytest.mark.parametrize("name", ["", "a" * 300, "no such name", "\ud800"])
async def test_what_has_no_address_is_an_error_of_the_system(name: str) -> None:
    resolve = SystemResolver()
    with pytest.raises((OSError, UnicodeError)):
        await resolve(name, 80)
    assert resolve.busy == 0


async def test_lookups_that_hang_are_bounded_and_end_where_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver is the outermost edge: what hangs here is the name server."""
    let, system = Event(), socket.getaddrinfo

    def getaddrinfo(*args: object, **kwargs: object) -> object:
        let.wait(30)
        return system("localhost", 80, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolve = SystemResolver(at_once=4)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(resolve, "dead.example", 80)
        await anyio.wait_all_tasks_blocked()
        assert resolve.busy == 4
        with pytest.raises(OSError, match="too many names"):
            await resolve("live.example", 80)
        # Nobody waits any more, and the threads are still stuck.
        group.cancel_scope.cancel()
    assert resolve.busy == 4
    with pytest.raises(OSError, match="too many names"):
        await resolve("live.example", 80)
    let.set()
    with anyio.fail_after(20):
        while resolve.busy:  # noqa: ASYNC110 -- threads that nobody waits for tell nobody
            await anyio.sleep(0.001)
    assert await resolve("live.example", 80)
