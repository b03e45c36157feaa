"""freya watch: one feed, live in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from server.cli.reaching import TokenOption, UrlOption, UserArgument, UserOption

if TYPE_CHECKING:
    from protocol.client import LiveFeed
    from protocol.client.view import FeedView
    from protocol.feed import FeedState
    from server.cli.showing import Mark

__all__ = ["watch"]

_Work: TypeAlias = Coroutine[None, None, None]

_MARKED_S = 3.0
"""How long a change stays marked."""


def watch(
    user: UserArgument = None,
    user_option: UserOption = None,
    feed: Annotated[str | None, typer.Option(help="Another user's feed; the token needs feed:watch.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    plain: Annotated[
        bool, typer.Option(help="A line for each change; the default where it is no terminal.")
    ] = False,
) -> None:
    """Follow a user's feed: the items as a live table, what changed marked. Ends with Ctrl-C."""
    from protocol.client import connect
    from protocol.client.failures import Stopped
    from server.cli.reaching import address_of, chosen_user, token_for
    from server.cli.running import run_async
    from server.cli.stop import Stop
    from server.settings import Settings

    settings = Settings.load()
    name = chosen_user(user, user_option, "freya watch alice")
    address = address_of(settings, url)
    scopes = ("feed:watch",) if feed is not None and feed != name else ()
    show = _plain if plain or not sys.stdout.isatty() else _live

    async def follow() -> None:
        source = token_for(settings, token, name, scopes)
        async with connect(address, source, own=not scopes, settings=False) as live:
            view = await live.watch(feed) if scopes and feed is not None else live.own
            await show(_Watched(live, view, feed or name, address))

    try:
        run_async(follow)
    except Stopped as stopped:
        raise Stop(str(stopped)) from stopped
    except ValueError as error:
        raise Stop(str(error), 2) from error


@dataclass(frozen=True, slots=True)
class _Watched:
    live: LiveFeed
    view: FeedView
    name: str
    address: str

    def note(self) -> str:
        """Why it is not live, as far as is known; else where it comes from."""
        end = self.live.last_end
        if self.live.status.value in {"connecting", "stale"} and end is not None:
            return f"{self.address}: {end.reason or f'closed with {end.code}'}; trying again"
        return self.address


async def _both(first: Callable[[], _Work], second: Callable[[], _Work]) -> None:
    import anyio

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(second)


async def _plain(watched: _Watched) -> None:
    """Lines, flushed one by one: for pipes and logs."""
    from server.cli.showing import changes

    def say(line: str) -> None:
        sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")
        sys.stdout.flush()

    async def statuses() -> None:
        status = watched.live.status
        while True:
            say(f"{status.value}  {watched.name}  {watched.note()}")
            status = await watched.live.wait_status_change(status)

    async def states() -> None:
        shown: FeedState | None = None
        async for state in watched.view:
            for line in changes(shown, state):
                say(line)
            shown = state

    await _both(statuses, states)


async def _live(watched: _Watched) -> None:
    """A table that is drawn anew at each change, and once a second for the ages."""
    import anyio
    from rich.live import Live

    from server.cli.showing import Header, marks, picture

    shown: FeedState | None = None
    marked: dict[str, tuple[Mark, float]] = {}
    changed_at: float | None = None

    with Live(auto_refresh=False, screen=False, vertical_overflow="ellipsis") as screen:

        def draw() -> None:
            now_s = anyio.current_time()
            for name in [name for name, (_, at) in marked.items() if now_s - at >= _MARKED_S]:
                del marked[name]
            fresh: dict[str, Mark] = {name: mark for name, (mark, _) in marked.items()}
            header = Header(watched.name, watched.live.status.value, watched.note())
            ago_s = None if changed_at is None else now_s - changed_at
            screen.update(picture(header, shown, fresh, datetime.now(UTC), ago_s), refresh=True)

        async def tick() -> None:
            while True:
                draw()
                await anyio.sleep(1)

        async def follow() -> None:
            nonlocal shown, changed_at
            async for state in watched.view:
                now_s = anyio.current_time()
                marked.update({name: (mark, now_s) for name, mark in marks(shown, state).items()})
                shown, changed_at = state, now_s
                draw()

        await _both(tick, follow)
