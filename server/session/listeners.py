"""Who follows a session: told at once, in the order in which they came, and never waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import structlog

from protocol.frozen import JsonValue

if TYPE_CHECKING:
    from server.session.user_session import UserSession

__all__ = ["CloseReason", "FeedListener", "Listeners"]

CloseReason: TypeAlias = Literal["gone", "removed", "shutdown"]
"""gone: the user was deleted. removed: by an operator or for room. shutdown: the process ends."""

_log = structlog.get_logger()


class FeedListener(Protocol):
    """Follows one session. Calls come from the session's own steps: they must not wait, should not raise, and
    must not change the session. One that raises is logged and hurts nobody else."""

    def on_revision(self, session: UserSession) -> None:
        """`session.history.current` is a new revision."""
        ...

    def on_source_changed(self, session: UserSession, source_state: dict[str, JsonValue]) -> None:
        """What `source.list` says of that source has changed; the newest state of it."""
        ...

    def on_closed(self, session: UserSession, reason: CloseReason) -> None:
        """The session has ended. It says nothing more; its history can still be read."""
        ...


class Listeners:
    """The listeners of one session, each once."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        # A dict keeps the order, and takes a thousand watchers of one feed in and out one by one.
        self._all: dict[FeedListener, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, listener: FeedListener) -> bool:
        return listener in self._all

    def __iter__(self) -> Iterator[FeedListener]:
        return iter(tuple(self._all))

    def add(self, listener: FeedListener) -> None:
        """Adds it; again is the same as once."""
        self._all[listener] = None

    def discard(self, listener: FeedListener) -> None:
        """Takes it out, if it is there."""
        self._all.pop(listener, None)

    def clear(self) -> tuple[FeedListener, ...]:
        """Takes all out, and says who they were."""
        gone, self._all = tuple(self._all), {}
        return gone

    def revision(self, session: UserSession) -> None:
        """Tells everybody of a new revision."""
        for listener in tuple(self._all):
            try:
                listener.on_revision(session)
            except Exception:
                # One subscriber's bug must not keep the feed from the others.
                _log.exception("feed_listener_failed", call="on_revision")

    def source_changed(self, session: UserSession, source_state: dict[str, JsonValue]) -> None:
        """Tells everybody of a source's new state."""
        for listener in self:
            try:
                listener.on_source_changed(session, source_state)
            except Exception:
                _log.exception("feed_listener_failed", call="on_source_changed")
