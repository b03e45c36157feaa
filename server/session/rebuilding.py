"""New settings of a provider, brought to the sessions that are alive: a few at a time, each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from anyio import Event, create_task_group

from protocol.ids import SourceId
from storage.errors import StorageUnavailable

if TYPE_CHECKING:
    from server.session.manager import SessionManager
    from server.session.user_session import UserSession

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

    async def run(self, manager: SessionManager) -> None:
        """Reads the rows of every session with the source on, which builds it with the settings of now."""
        sessions = (s for s in manager.sessions() if s.source_view(self.source_id).enabled)
        try:
            async with create_task_group() as group:
                for _ in range(_AT_ONCE):
                    group.start_soon(self._work, manager, sessions)
        finally:
            self.done.set()

    async def _work(self, manager: SessionManager, sessions: Iterator[UserSession]) -> None:
        for session in sessions:
            try:
                await manager.reread(session.user)
            except StorageUnavailable:
                self.kept += 1  # owed: it follows when the store answers
                continue
            await session.settled(self.source_id, session.source_view(self.source_id).version)
            latest = session.runs_latest(self.source_id)
            if latest is not None:
                self.refreshed += latest
                self.kept += not latest
