"""A feed of every source, watched; then what many users cost the services in a minute.

python -m tests.sources.outside [--users 1000] [--seconds 60]
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import AsyncExitStack
from time import monotonic

import anyio
import anyio.to_thread

from tests.sources.outside.city import City, Outside, open_outside, running_city, until_shown
from tests.support.programs import running

__all__ = ["main"]

_AT_ONCE = 40


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    anyio.run(_run, asked.users, asked.seconds)


async def _run(users: int, seconds: float) -> None:
    async with open_outside() as outside:
        with running_city(outside) as city:
            await _watch(city)
            await _count(city, outside, users, seconds)


async def _watch(city: City) -> None:
    """One user's feed, as `freya watch` prints it."""
    arguments = ("watch", "anna", "--url", city.server.url, "--token", city.token("anna"), "--plain")
    with running(*arguments) as watch:
        await anyio.to_thread.run_sync(watch.wait_line, r"\blive\b")
        async with city.at_home("anna") as feed:
            await city.furnish(feed, 0)
            await until_shown(feed)
        await anyio.sleep(1)  # what was pushed is printed by another process
        print("$ freya watch anna")
        print("\n".join(watch.lines))


async def _count(city: City, outside: Outside, users: int, seconds: float) -> None:
    ready, over = anyio.Event(), anyio.Event()
    turn, shown, begun = anyio.CapacityLimiter(_AT_ONCE), 0, monotonic()
    before = arrived = minute = outside.calls()
    took_s = 0.0

    async def live(n: int) -> None:
        nonlocal shown
        async with AsyncExitStack() as stack:
            async with turn:
                feed = await stack.enter_async_context(city.at_home(f"user{n}"))
                await city.furnish(feed, n)
                await until_shown(feed)
            shown += 1
            if shown == users:
                ready.set()
            await over.wait()

    async with anyio.create_task_group() as group:
        for n in range(users):
            group.start_soon(live, n)
        await ready.wait()
        arrived = outside.calls()
        took_s = monotonic() - begun
        await anyio.sleep(seconds)
        minute = outside.calls() - arrived
        over.set()
    _table(users, took_s, seconds, arrived - before, minute)


def _table(users: int, took_s: float, seconds: float, coming: Counter[str], staying: Counter[str]) -> None:
    print(f"\n{users} users, each with weather, transit, news (one of 10 papers), music (one of 10 profiles)")
    print("and a calendar of their own. Calls that reached the services:\n")
    print(f"{'':20} {f'while they came ({took_s:.0f} s)':>28} {f'in the next {seconds:.0f} s':>22}")
    for name in sorted(coming.keys() | staying.keys()):
        print(f"{name:20} {coming[name]:28} {staying[name]:22}")


if __name__ == "__main__":
    main()
