"""What can go wrong for a program that uses the client. Error replies are `protocol.errors.RpcError`.

ClientError
├── Stopped              the client gave up, and says by which close code
│   └── SignInRequired   no token is accepted any more
├── FeedClosed           a watched feed can no longer be watched
├── NotConnected         the request was never sent
├── MessageTooBig        the request was never sent, and never can be
├── ConnectionLost       the request was sent; whether it was done is unknown
└── CallTimedOut         likewise
"""

from __future__ import annotations

from collections.abc import Mapping

from protocol.errors import RpcError

__all__ = [
    "CallTimedOut",
    "ClientError",
    "ConnectionLost",
    "FeedClosed",
    "MessageTooBig",
    "NotConnected",
    "SignInRequired",
    "Stopped",
    "is_repeatable",
]


class ClientError(Exception):
    """The client could not do what was asked of it."""


class Stopped(ClientError):
    """The client gave up for good: the server's close code says that coming back is of no use."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"stopped by close code {self.code}" + (f": {self.reason}" if self.reason else "")


class SignInRequired(Stopped):
    """The token was refused and so was the next one, or there was no next one: the user must sign in."""

    def __str__(self) -> str:
        return "no token is accepted: sign in again" + (f" ({self.reason})" if self.reason else "")


class FeedClosed(ClientError):
    """A watched feed has ended. `reason`: scope, revoked, gone, or what the server answered: then `error`."""

    def __init__(self, feed: str, reason: str, error: RpcError | None = None) -> None:
        super().__init__(feed, reason)
        self.feed = feed
        self.reason = reason
        self.error = error

    def __str__(self) -> str:
        return f"the feed {self.feed} can no longer be watched: {self.reason}"


class _CallFailed(ClientError):
    says = ""

    def __init__(self, method: str, *, repeatable: bool) -> None:
        super().__init__(method)
        self.method = method
        self.repeatable = repeatable

    def __str__(self) -> str:
        return f"{self.method}: {self.says}"


class NotConnected(_CallFailed):
    """There was no connection in time; nothing was sent."""

    says = "not connected"


class MessageTooBig(_CallFailed):
    """The request is over the protocol's bound for one message; nothing was sent."""

    says = "too big for one message"


class ConnectionLost(_CallFailed):
    """The connection ended before the answer: the request may or may not have been done.

    `repeatable` says whether it can be sent once more without harm.
    """

    says = "the connection ended before the answer"


class CallTimedOut(_CallFailed):
    """No answer in time: the request may or may not have been done; `repeatable` as with ConnectionLost."""

    says = "no answer in time"


def is_repeatable(method: str, params: Mapping[str, object]) -> bool:
    """Whether a request does no more harm twice than once: all but an action without a `key`."""
    return method != "action.execute" or params.get("key") is not None
