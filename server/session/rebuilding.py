"""New settings of a provider, brought to the sessions that are alive: a few at a time, each for itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from anyio import Event, create_task_group

from protocol.ids import SourceId, UserId
from server.session.user_session import UserSession
from storage.errors import StorageUnavailable

__all__ = ["Rebuild"]

# Sessions at once: enough to share queries, few enough that an upstream is not asked by everybody together.
_AT_ONCE: Final = 32


class Rebuild:
    """One provider's new settings on their way, and how far they have come."""

    __slots__ = ("done", "kept", "refreshed", "source_id")

    def __init__(self, source_id: SourceId) -> None:
        self.source_id = source_id
        self.refreshed = 0
        """Sessions whose source runs with them."""
        self.kept = 0
        """Sessions that go on with what they had: it is tried again later."""
        self.done = Event()

    async def run(
        self, sessions: Iterator[UserSession], reread: Callable[[UserId], Awaitable[object]]
    ) -> None:
        """Has the rows of every session with the source on read, which builds it with the settings of now."""
        concerned = (s for s in sessions if s.source_view(self.source_id).enabled)
        try:
            async with create_task_group() as group:
                for _ in range(_AT_ONCE):
                    group.start_soon(self._work, concerned, reread)
        finally:
            self.done.set()

    async def _work(
        self, sessions: Iterator[UserSession], reread: Callable[[UserId], Awaitable[object]]
    ) -> None:
        for session in sessions:
            try:
                await reread(session.user)
            except StorageUnavailable:
                self.kept += 1  # owed: it follows when the store answers
                continue
            await session.settled(self.source_id, session.source_view(self.source_id).version)
            latest = session.runs_latest(self.source_id)
            if latest is not None:
                self.refreshed += latest
                self.kept += not latest
