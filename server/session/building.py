"""Building the sources of one session: each at its own pace, none waiting for another.

A provider that does not wait, as most don't, costs no task of its own: one worker builds source after source,
and only while it waits for one does the next get another worker. What is done in one go is handed on in one
go, so that a session that begins makes its list once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from anyio import CancelScope

from protocol.ids import UserId
from server.engine.clock import expire_after
from server.engine.source import FeedSource, SourceFailure, Unreachable
from server.engine.tasks import TaskScope
from server.session.builds import close_source
from server.session.parts import SessionParts
from server.sources.provider import AnyProvider
from storage.source_configs import SourceConfigRow

__all__ = ["Build", "BuildKey", "BuildQueue"]

BuildKey: TypeAlias = tuple[int, int]
"""What an instance is built from: the row's version, and that of its provider's settings."""


class Build:
    """One attempt to build one version of one source, and what came of it."""

    __slots__ = ("_scope", "dropped", "failure", "key", "provider", "row", "source")

    def __init__(self, provider: AnyProvider, row: SourceConfigRow, key: BuildKey) -> None:
        self.provider = provider
        self.row = row
        self.key = key
        self.dropped = False
        self.source: FeedSource | None = None
        self.failure: SourceFailure | None = None
        self._scope: CancelScope | None = None

    def drop(self) -> None:
        """Nobody wants it any more: it is cancelled, and what it still brings is closed."""
        self.dropped = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, user: UserId, parts: SessionParts) -> None:
        """Builds it. Afterwards there is a source or a failure, unless it was dropped."""
        source: FeedSource | None = None
        with expire_after(parts.clock, parts.options.build_timeout_s) as self._scope:
            try:
                source = await parts.builder.from_row(user, self.provider, self.row)
            except SourceFailure as failure:
                self.failure = failure
        self._scope = None
        if self.dropped and source is not None:
            await close_source(source, parts.clock)
        elif source is None and self.failure is None:
            self.failure = Unreachable("it took too long to start")
        else:
            self.source = source


class BuildQueue:
    """The builds of one session."""

    __slots__ = ("_done", "_on_done", "_parts", "_tasks", "_user", "_waiting", "_watched")

    def __init__(
        self,
        user: UserId,
        parts: SessionParts,
        tasks: TaskScope,
        on_done: Callable[[Sequence[Build]], None],
    ) -> None:
        """`on_done` is told of every build that was not dropped, several at a time; it must not wait."""
        self._user = user
        self._parts = parts
        self._tasks = tasks
        self._on_done = on_done
        self._waiting: deque[Build] | None = None
        self._done: list[Build] | None = None
        self._watched = False

    def add(self, build: Build) -> None:
        """Has it built, beginning soon."""
        self._waiting = self._waiting or deque()
        self._waiting.append(build)
        self._start()

    def close(self) -> None:
        """Hands on nothing any more."""
        self._on_done = _nobody

    def _start(self) -> None:
        if self._waiting and not self._watched:
            self._watched = True
            self._tasks.start(self._work, name="session.build")
            # Comes after the worker's first step, which has built what could be built at once. Every worker
            # is looked after so: nothing that is done waits for what is not.
            self._parts.clock.call_later(0, self._look)

    def _look(self) -> None:
        self._watched = False
        self._hand_on()
        self._start()

    async def _work(self) -> None:
        while self._waiting:
            build = self._waiting.popleft()
            if build.dropped:
                continue
            await build.run(self._user, self._parts)
            self._done = self._done or []
            self._done.append(build)
        self._waiting = None  # an empty queue is 700 bytes, and most sessions never need another
        self._hand_on()

    def _hand_on(self) -> None:
        done, self._done = self._done, None
        if done:
            self._on_done([build for build in done if not build.dropped])


def _nobody(_done: Sequence[Build]) -> None:
    """There is nobody to take them any more."""
