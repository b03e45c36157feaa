"""What sessions refuse, as the rest of the house sees it.

SessionError
├── SessionUnavailable      no session now; whoever needs one comes back later
│   ├── SessionRemoved      it was taken away while it was being made
│   └── SessionsFull        no room, and nobody idle to make some
├── SessionsClosed          the process is going down
├── NoSuchUser              asked for a user who must exist, and does not
└── SourceUnavailable       a source that the session does not run
"""

from __future__ import annotations

__all__ = [
    "NoSuchUser",
    "SessionError",
    "SessionRemoved",
    "SessionUnavailable",
    "SessionsClosed",
    "SessionsFull",
    "SourceUnavailable",
]


class SessionError(Exception):
    """Anything a session or the manager refuses. The text is safe to show."""


class SessionUnavailable(SessionError):
    """There can be no session for this user at the moment, for a reason that passes."""

    def __init__(self, reason: str = "the store does not answer") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no session: {self.reason}"


class SessionRemoved(SessionUnavailable):
    """The session was removed while it was being made."""

    def __init__(self) -> None:
        super().__init__("it was removed")


class SessionsFull(SessionUnavailable):
    """The process holds as many sessions as it may, all of them in use."""

    def __init__(self, maximum: int) -> None:
        super().__init__(f"{maximum} sessions are in use")
        self.maximum = maximum


class SessionsClosed(SessionError):
    """The manager has been closed: this process serves no sessions any more."""

    def __str__(self) -> str:
        return "the sessions are closed"


class NoSuchUser(SessionError):
    """Nothing is known of this user."""

    def __str__(self) -> str:
        return "there is no such user"


class SourceUnavailable(SessionError):
    """The session does not run that source; `status` says what it does instead."""

    def __init__(self, source_id: str, status: str) -> None:
        super().__init__(source_id, status)
        self.source_id = source_id
        self.status = status

    def __str__(self) -> str:
        return f"{self.source_id} is not running: {self.status}"
