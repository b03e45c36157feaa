"""The border to the PostgreSQL driver: its connections as small typed ones, its errors as ours.

Only this module, `database` and `migrate` know asyncpg. What they hand out (`Tx`, `Reader`, `Runner`)
is all that the repositories use.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, cast
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg

from storage.errors import NoRow, StorageUnavailable

__all__ = [
    "ConnectionLost",
    "Driver",
    "OutOfRoom",
    "Reader",
    "Row",
    "Runner",
    "Tx",
    "connect",
    "connect_failure",
    "translated",
    "where",
]


class Row(Protocol):
    """One row: by position, by column name, or unpacked. JSON comes as text, bytea as bytes."""

    def __getitem__(self, key: int | str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Driver(Protocol):
    """As much of a driver's connection as we use."""

    async def fetch(self, query: str, *args: object) -> list[Row]: ...
    async def fetchrow(self, query: str, *args: object) -> Row | None: ...
    async def execute(self, query: str, *args: object) -> str: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    async def close(self, *, timeout: float | None = None) -> None: ...


class Reader(Protocol):
    """Whatever can answer a query: a transaction, or the database itself (each query its own snapshot)."""

    async def fetch(self, query: str, *args: object) -> list[Row]: ...
    async def fetch_one(self, query: str, *args: object) -> Row | None: ...


class Runner(Reader, Protocol):
    """A reader that also runs single statements that write. Each is all or nothing."""

    async def run(self, query: str, *args: object) -> list[Row]: ...


class ConnectionLost(StorageUnavailable):
    """The connection is gone or never was: another one may do better."""


class OutOfRoom(StorageUnavailable):
    """PostgreSQL answers, but has no disk space, memory or another resource left for what was asked."""


class Tx:
    """An open transaction. Used by one task at a time; its errors are ours, see `translated`."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def fetch(self, query: str, *args: object) -> list[Row]:
        """All rows. Raises StorageUnavailable("none"): whatever the transaction did is rolled back."""
        try:
            return await self._driver.fetch(query, *args)
        except _FOREIGN as error:
            raise translated(error) from error

    async def fetch_one(self, query: str, *args: object) -> Row | None:
        """The first row or None. Raises like `fetch`."""
        try:
            return await self._driver.fetchrow(query, *args)
        except _FOREIGN as error:
            raise translated(error) from error

    async def run(self, query: str, *args: object) -> list[Row]:
        """The same as `fetch`, for a statement that writes."""
        return await self.fetch(query, *args)

    async def command(self, script: str) -> None:
        """One or more statements without arguments and without an answer. Raises like `fetch`."""
        try:
            await self._driver.execute(script)
        except _FOREIGN as error:
            raise translated(error) from error


# Everything that may leave the driver because of the world. Its other errors are our bugs and pass as
# they are: they end as an internal error with a logged trace.
_FOREIGN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a failed-over address: the next connection may reach the primary
    asyncpg.exceptions.ProtocolError,
    asyncpg.exceptions.TargetServerAttributeNotMatched,
)
# A refused sign-in will be refused again: waiting does not help, people must.
_REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
_BUSY = (
    asyncpg.OperatorInterventionError,  # a statement over its time, among others
    asyncpg.LockNotAvailableError,
    asyncpg.exceptions.TransactionRollbackError,  # deadlock, serialization
)
_SICK = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)


def translated(error: BaseException) -> BaseException:
    """Our error for one of the driver's, without its text; the same error where it is our own bug."""
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        return NoRow("the user has no row")
    if isinstance(error, _REFUSED):
        return StorageUnavailable(
            "none", f"PostgreSQL refuses us: {error.args[0] if error.args else 'sign-in'}"
        )
    if isinstance(error, (OSError, *_LOST)) or _says_closed(error):
        return ConnectionLost("none", _lost_reason(error))
    if isinstance(error, _BUSY):
        return StorageUnavailable("none", "the database is too busy: a statement waited too long")
    if isinstance(error, _SICK):
        return OutOfRoom("none", "the database is out of disk space, memory or another resource")
    return error


def _says_closed(error: BaseException) -> bool:
    # The driver has one class for misuse and for a connection that is gone; only the text tells them apart.
    # One that is lost while it is lent out counts as "released back to the pool".
    text = str(error)
    return type(error) is asyncpg.InterfaceError and ("clos" in text or "released back to the pool" in text)


def _lost_reason(error: BaseException) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError() | FileNotFoundError():
            return "connection refused"
        case socket.gaierror():
            return "its host name cannot be resolved"
        case PermissionError():
            return "no permission to connect"
        case asyncpg.CannotConnectNowError():
            return "it is starting up or shutting down"
        case asyncpg.TooManyConnectionsError():
            return "it has no connection left for us"
        case asyncpg.ReadOnlySQLTransactionError():
            return "it is read only"
        case _:
            return "connection lost"


async def connect(dsn: str, *, timeout_s: float, settings: Mapping[str, str]) -> Driver:
    """A connection of its own, outside any pool; the caller closes it.

    Raises StorageUnavailable with a sentence that names the server, never the password.
    """
    with anyio.CancelScope(deadline=anyio.current_time() + timeout_s):
        try:
            return cast("Driver", await _connect(dsn, server_settings=dict(settings)))
        except Exception as error:
            raise connect_failure(dsn, error) from error
    raise connect_failure(dsn, TimeoutError())


# The driver is untyped: its functions are taken over once, as what we know them to be.
_connect = cast("Callable[..., Awaitable[object]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType] -- as said


def connect_failure(dsn: str, error: BaseException) -> BaseException:
    """What to raise where connecting to `dsn` failed: an error that says which server and why."""
    if isinstance(error, ValueError):
        # Not `from`'s text: a malformed address may carry a password.
        return StorageUnavailable(
            "none", "DATABASE_URL is not an address like postgresql://USER@HOST/DATABASE"
        )
    ours = translated(error)
    if isinstance(ours, StorageUnavailable):
        kind = type(ours)
        return kind("none", f"cannot connect to PostgreSQL at {where(dsn)}: {ours.reason}")
    return ours


def where(dsn: str) -> str:
    """The server that `dsn` names, for people: host and port or socket directory, no user, no password."""
    try:
        parts = urlsplit(dsn)
        asked = parse_qs(parts.query)
        host = parts.hostname or asked.get("host", [""])[0] or os.environ.get("PGHOST", "the local socket")
        port = parts.port or asked.get("port", [""])[0]
    except ValueError:
        return "an address that cannot be read"
    return f"{host}:{port}" if port and not host.startswith("/") else host
