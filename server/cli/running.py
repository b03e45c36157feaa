"""How commands run their asynchronous part, and how the world's failures become one message."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar, cast

import anyio

from server.cli.stop import Stop

__all__ = ["explained", "run_async"]

T = TypeVar("T")


def run_async(work: Callable[[], Awaitable[T]], *, uvloop: bool = False) -> T:
    """Runs `work` to its end. A failure inside task groups comes out as itself, not wrapped in a group."""
    with explained():
        return anyio.run(work, backend_options={"use_uvloop": uvloop})


@contextmanager
def explained() -> Generator[None]:
    """Turns the failures that a person can do something about into `Stop`."""
    try:
        yield
    except BaseExceptionGroup as group:
        single = _single(group)
        if single is group:
            raise
        with explained():
            raise single from None
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        raise Stop(message) from error


def _single(error: BaseException) -> BaseException:
    """The one exception inside nested groups, or the group that holds several."""
    while isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inner) != 1:
            break
        error = inner[0]
    return cast("BaseException", error)


def _message(error: Exception) -> str | None:
    from server.keys import KeysUnusable
    from server.tokens.jwks import JwksUnavailable
    from storage.errors import StorageError, StorageUnavailable

    match error:
        case StorageUnavailable():
            return (
                f"{error}\nIs DATABASE_URL right, and does PostgreSQL run there? `freya doctor` looks closer."
            )
        case StorageError() | KeysUnusable() | JwksUnavailable():
            return str(error)
        case _:
            return _message_of_a_start(error)


def _message_of_a_start(error: Exception) -> str | None:
    from server.app import CannotListen
    from server.options import CertificateUnusable
    from server.replication.probe import BusUnreachable

    match error:
        case CertificateUnusable():
            return str(error)
        case BusUnreachable():
            return f"{error}\nTo start without it, and follow when it comes: FREYA_REDIS_REQUIRED=0"
        case CannotListen() if error.error.errno == errno.EADDRINUSE:
            other = f"Another port: --port {error.port + 1}"
            return f"{error.host}:{error.port} is taken: does a server run there already?\n{other}"
        case CannotListen() if error.error.errno == errno.EACCES:
            return f"{error}\nPorts below 1024 are root's. Another one: --port 8080"
        case CannotListen():
            return f"{error}\nAre FREYA_HOST, PORT and FREYA_OPS_LISTEN right?"
        case _:
            return None
