"""Every error code of the protocol, each once.

    RpcError                 an answer to a request; the connection lives
    ├── ParseError, InvalidRequest, MethodNotFound, InvalidParams, InternalError    JSON-RPC's own
    ├── one class for each code from -32001 to -32016
    └── UnknownError         a code from a newer server, as a client sees it

The codes that end a connection are in `protocol.closing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from protocol.closing import CLOSE_CODES, REFUSALS, Advice, CloseCode, CloseKind, NextStep, advice
from protocol.frozen import JsonObject, JsonValue

__all__ = [
    "CLOSE_CODES",
    "ERRORS",
    "REFUSALS",
    "ActionFailed",
    "Advice",
    "CloseCode",
    "CloseKind",
    "CredentialStorageUnavailable",
    "FeedNotFound",
    "Forbidden",
    "InternalError",
    "InvalidCredentials",
    "InvalidParams",
    "InvalidRequest",
    "InvalidSourceConfig",
    "InvalidToken",
    "Issue",
    "LimitReached",
    "MethodNotFound",
    "NextStep",
    "Outcome",
    "ParseError",
    "RateLimited",
    "RpcError",
    "SourceNotFound",
    "SourceNotRunning",
    "StorageUnavailableError",
    "TimedOut",
    "UnknownAction",
    "UnknownError",
    "VerificationFailed",
    "VersionConflict",
    "advice",
    "error_from_wire",
]

Outcome: TypeAlias = Literal["none", "unknown"]

# How long to wait before the same request is worth another try, where nobody knows better.
_SOON_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Issue:
    """One mistake in what was sent: where (keys and indexes from the outermost value), and what."""

    path: tuple[str | int, ...]
    message: str

    def wire(self) -> dict[str, JsonValue]:
        """The wire object."""
        return {"path": self.path, "message": self.message}


class RpcError(Exception):
    """An error reply: `code` and `message`, and `details` that depend on the code.

    It is `temporary`, worth the same request again, exactly where `retry_in_ms` says after how long.
    Message and details are sent as they are: nothing goes into them that must not leave the server.
    """

    code: int
    title: ClassVar[str] = "error"

    def __init__(
        self,
        details: JsonObject | None = None,
        *,
        message: str | None = None,
        retry_in_ms: int | None = None,
    ) -> None:
        super().__init__(message or self.title)
        self.message = message or self.title
        self.details: JsonObject = details or {}
        self.retry_in_ms = retry_in_ms

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.retry_in_ms is not None

    @property
    def data(self) -> dict[str, JsonValue]:
        """The wire error's `data`."""
        data: dict[str, JsonValue] = {**self.details, "temporary": self.temporary}
        if self.retry_in_ms is not None:
            data["retryInMs"] = self.retry_in_ms
        return data

    def wire(self) -> dict[str, JsonValue]:
        """The wire error object."""
        return {"code": self.code, "message": self.message, "data": self.data}

    def __str__(self) -> str:
        said = "; ".join(f"{key}: {value}" for key, value in self.details.items())
        return f"{self.message} ({self.code})" + (f" [{said}]" if said else "")


class _Text:
    """A detail that is a string: empty where a peer left it out."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, error: RpcError, _: type[RpcError]) -> str:
        value = error.details.get(self._name)
        return value if isinstance(value, str) else ""


class _Int:
    """A detail that is an integer: 0 where a peer left it out."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, error: RpcError, _: type[RpcError]) -> int:
        value = error.details.get(self._name)
        return value if isinstance(value, int) else 0


class _Issues:
    """The detail `issues`: what is not of its form is passed over."""

    def __get__(self, error: RpcError, _: type[RpcError]) -> tuple[Issue, ...]:
        value = error.details.get("issues")
        return (
            tuple([_read_issue(issue) for issue in value if isinstance(issue, dict)])
            if isinstance(value, list | tuple)
            else ()
        )


class _OutcomeDetail:
    """The detail `outcome`: unknown unless a peer is sure that nothing was done."""

    def __get__(self, error: RpcError, _: type[RpcError]) -> Outcome:
        return "none" if error.details.get("outcome") == "none" else "unknown"


class ParseError(RpcError):
    """The frame is not JSON, or not text."""

    code = -32700
    title = "not a JSON text"


class InvalidRequest(RpcError):
    """JSON, but no request: a batch, an id out of bounds or still in flight, no method."""

    code = -32600
    title = "not a request"


class MethodNotFound(RpcError):
    """No method of that name."""

    code = -32601
    title = "no such method"
    method = _Text("method")

    def __init__(self, method: str) -> None:
        super().__init__({"method": method})


class InvalidParams(RpcError):
    """Params that the method does not take; `issues` says where and why."""

    code = -32602
    title = "params that do not fit"
    issues = _Issues()

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__({"issues": [issue.wire() for issue in issues]})


class InternalError(RpcError):
    """Our fault. `error_id` is in the log beside everything that must not be told."""

    code = -32603
    title = "something went wrong on the server"
    error_id = _Text("errorId")

    def __init__(self, error_id: str) -> None:
        super().__init__({"errorId": error_id})


class SourceNotFound(RpcError):
    """No such source; with reason `noRow`: a source that has no row yet, `source.put` makes one."""

    code = -32001
    title = "source not found"
    source_id = _Text("sourceId")
    reason = _Text("reason")

    def __init__(self, source_id: str, *, reason: str | None = None) -> None:
        super().__init__(
            {"sourceId": source_id} if reason is None else {"sourceId": source_id, "reason": reason}
        )


class InvalidSourceConfig(RpcError):
    """A config against the source's schema; the issues' paths start below `config`."""

    code = -32002
    title = "invalid source config"
    source_id = _Text("sourceId")
    issues = _Issues()

    def __init__(self, source_id: str, issues: Sequence[Issue]) -> None:
        super().__init__({"sourceId": source_id, "issues": [issue.wire() for issue in issues]})


class CredentialStorageUnavailable(RpcError):
    """The server has no key to keep credentials with: nothing was written."""

    code = -32003
    title = "credential storage unavailable"


class InvalidCredentials(RpcError):
    """Credentials against the source's schema, or refused by the service they are for."""

    code = -32004
    title = "invalid credentials"
    source_id = _Text("sourceId")
    issues = _Issues()

    def __init__(self, source_id: str, issues: Sequence[Issue]) -> None:
        super().__init__({"sourceId": source_id, "issues": [issue.wire() for issue in issues]})


class UnknownAction(RpcError):
    """The source has no action of that id."""

    code = -32005
    title = "unknown action"
    source_id = _Text("sourceId")
    action_id = _Text("actionId")

    def __init__(self, source_id: str, action_id: str) -> None:
        said = f"{source_id} has no action {action_id}"
        super().__init__({"sourceId": source_id, "actionId": action_id, "message": said})


class ActionFailed(RpcError):
    """The action was tried and failed; `reason` is the source's safe word on it."""

    code = -32006
    title = "action failed"
    source_id = _Text("sourceId")
    action_id = _Text("actionId")
    reason = _Text("message")

    def __init__(
        self, source_id: str, action_id: str, reason: str, *, retry_in_ms: int | None = None
    ) -> None:
        details: JsonObject = {"sourceId": source_id, "actionId": action_id, "message": reason}
        super().__init__(details, retry_in_ms=retry_in_ms)


class VersionConflict(RpcError):
    """`ifVersion` is not the row's version; `version` is."""

    code = -32007
    title = "version conflict"
    source_id = _Text("sourceId")
    version = _Int("version")

    def __init__(self, source_id: str, version: int) -> None:
        super().__init__({"sourceId": source_id, "version": version})


class Forbidden(RpcError):
    """The token does not reach that far; `needs` is the scope that would."""

    code = -32008
    title = "forbidden"
    needs = _Text("needs")

    def __init__(self, needs: str) -> None:
        super().__init__({"needs": needs})


class RateLimited(RpcError):
    """Too many requests; the same one may come again after `retry_in_ms`."""

    code = -32009
    title = "rate limited"

    def __init__(self, retry_in_ms: int) -> None:
        super().__init__(retry_in_ms=retry_in_ms)


class StorageUnavailableError(RpcError):
    """The database is away. Outcome `none`: nothing was written. `unknown`: read before repeating."""

    code = -32010
    title = "storage unavailable"
    outcome = _OutcomeDetail()

    def __init__(self, outcome: Outcome, *, retry_in_ms: int = _SOON_MS) -> None:
        super().__init__({"outcome": outcome}, retry_in_ms=retry_in_ms)


class FeedNotFound(RpcError):
    """Reading the feed of a user who does not exist."""

    code = -32011
    title = "feed not found"
    feed = _Text("feed")

    def __init__(self, feed: str) -> None:
        super().__init__({"feed": feed})


class VerificationFailed(RpcError):
    """The source was built beside the running one and gave no good answer: nothing has changed."""

    code = -32012
    title = "verification failed"
    source_id = _Text("sourceId")
    reason = _Text("message")
    issues = _Issues()

    def __init__(self, source_id: str, reason: str, issues: Sequence[Issue] = ()) -> None:
        details: dict[str, JsonValue] = {"sourceId": source_id, "message": reason}
        if issues:
            details["issues"] = [issue.wire() for issue in issues]
        super().__init__(details)


class SourceNotRunning(RpcError):
    """The source is there but not running; `status` says why. Temporary while it is starting."""

    code = -32013
    title = "source not running"
    source_id = _Text("sourceId")
    status = _Text("status")

    def __init__(self, source_id: str, status: str) -> None:
        retry_in_ms = _SOON_MS if status == "starting" else None
        super().__init__({"sourceId": source_id, "status": status}, retry_in_ms=retry_in_ms)


class InvalidToken(RpcError):
    """A token that cannot take the place of the present one; nothing has changed."""

    code = -32014
    title = "invalid token"
    reason = _Text("reason")

    def __init__(self, reason: str) -> None:
        super().__init__({"reason": reason})


class LimitReached(RpcError):
    """A bound of the server, by name and size."""

    code = -32015
    title = "limit reached"
    limit = _Text("limit")
    max = _Int("max")

    def __init__(self, limit: str, max: int) -> None:  # noqa: A002 -- the protocol's own word for it
        super().__init__({"limit": limit, "max": max})


class TimedOut(RpcError):
    """The request's deadline passed. Outcome `none`: nothing was done. `unknown`: read before repeating."""

    code = -32016
    title = "timed out"
    outcome = _OutcomeDetail()

    def __init__(self, outcome: Outcome, *, retry_in_ms: int = _SOON_MS) -> None:
        super().__init__({"outcome": outcome}, retry_in_ms=retry_in_ms)


class UnknownError(RpcError):
    """A code that this version does not know."""

    title = "unknown error"

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message=message)
        self.code = code


ERRORS: Final[Mapping[int, type[RpcError]]] = {
    kind.code: kind
    for kind in (
        ParseError,
        InvalidRequest,
        MethodNotFound,
        InvalidParams,
        InternalError,
        SourceNotFound,
        InvalidSourceConfig,
        CredentialStorageUnavailable,
        InvalidCredentials,
        UnknownAction,
        ActionFailed,
        VersionConflict,
        Forbidden,
        RateLimited,
        StorageUnavailableError,
        FeedNotFound,
        VerificationFailed,
        SourceNotRunning,
        InvalidToken,
        LimitReached,
        TimedOut,
    )
}


def error_from_wire(obj: JsonObject) -> RpcError:
    """The error that a peer sent, as the class of its code. Never raises: what is odd is left out."""
    code, message, data = obj.get("code"), obj.get("message"), obj.get("data")
    code = code if isinstance(code, int) else 0
    message = message if isinstance(message, str) else "an error without a message"
    details = dict(data) if isinstance(data, dict) else {}
    retry_in_ms = details.pop("retryInMs", None)
    temporary = details.pop("temporary", False) is True
    if not isinstance(retry_in_ms, int):
        retry_in_ms = _SOON_MS if temporary else None
    kind = ERRORS.get(code, UnknownError)
    # Each class has a constructor of its own; what came over the wire goes below all of them.
    error = kind.__new__(kind)
    RpcError.__init__(error, details, message=message, retry_in_ms=retry_in_ms if temporary else None)
    error.code = code
    return error


def _read_issue(issue: JsonObject) -> Issue:
    path, message = issue.get("path"), issue.get("message")
    parts = path if isinstance(path, list | tuple) else ()
    return Issue(
        tuple([part for part in parts if isinstance(part, str | int)]),
        message if isinstance(message, str) else "",
    )
