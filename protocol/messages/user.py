"""`user.*`: what operators may see and do about one user."""

from __future__ import annotations

from protocol.messages.base import CursorText, FeedName, Method, Nothing, Params, Time, WireModel
from protocol.messages.connection import Resume
from protocol.messages.feed import Cause
from protocol.messages.objects import SourceState

__all__ = [
    "METHODS",
    "CloseInfo",
    "ConnectionView",
    "ReplicaView",
    "UserInspectResult",
    "UserParams",
    "UserRevokeParams",
    "UserRevokeResult",
]


class UserParams(Params):
    """The user."""

    user: FeedName


class ConnectionView(WireModel):
    """One connection of the user."""

    connection: str
    client: str | None = None
    since: Time
    background: bool
    writable: bool
    sent: CursorText | None = None
    acked: CursorText | None = None
    buffered_bytes: int
    last_resume: Resume | None = None


class CloseInfo(WireModel):
    """A connection of the user that has ended."""

    at: Time
    code: int
    reason: str
    client: str | None = None


class ReplicaView(WireModel):
    """The user on one replica."""

    replica: str
    connections: list[ConnectionView]
    closes: list[CloseInfo]
    sources: list[SourceState]
    causes: list[Cause]


class UserInspectResult(WireModel):
    """The user on each replica that answered, and the replicas that did not."""

    replicas: list[ReplicaView]
    unreachable: list[str]


class UserRevokeParams(UserParams):
    """Tokens issued before this time are refused; without it, all there are now."""

    issued_before: Time | None = None


class UserRevokeResult(WireModel):
    """How many live connections were closed on this replica; others follow."""

    closed: int


METHODS = (
    Method(
        "user.inspect", UserParams, UserInspectResult, "Why is this user's feed like this?", scope="admin"
    ),
    Method(
        "user.revoke",
        UserRevokeParams,
        UserRevokeResult,
        "Refuses the user's older tokens everywhere and closes their connections with 4403.",
        scope="admin",
        writes=True,
    ),
    Method("user.delete", UserParams, Nothing, "Erases everything of the user.", scope="admin", writes=True),
)
