"""How commands run their asynchronous part, and how the world's failures become one message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar, cast

import anyio

from server.cli.stop import Stop

__all__ = ["explained", "run_async"]

T = TypeVar("T")

_LOOK_CLOSER = "`python -m server doctor` looks closer."


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
    from server.cannot_start import CannotStart
    from storage.errors import StorageError, StorageUnavailable

    match error:
        case StorageUnavailable():
            return f"{error}\nIs DATABASE_URL right, and does PostgreSQL run there? {_LOOK_CLOSER}"
        case StorageError():
            return str(error)
        case CannotStart():
            return f"{error}\n{error.advice}".strip()
        case _:
            return None
