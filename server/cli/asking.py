"""One short conversation with the server, and its failures in words for a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from protocol.ids import UserId
from server.cli.stop import Stop

if TYPE_CHECKING:
    from protocol.client import LiveFeed
    from server.settings import Settings

__all__ = ["ask"]

T = TypeVar("T")

_PATIENCE_S = 10.0
# A server that is there answers at once; the client by itself would go on trying.
_CONNECT_S = 3.0


def ask(
    settings: Settings,
    user: UserId,
    scopes: Iterable[str],
    url: str | None,
    token: str | None,
    question: Callable[[LiveFeed], Awaitable[T]],
) -> T:
    """Connects as `user` (without following any feed), asks, and leaves. Stops where that fails."""
    from protocol.client import ClientError, connect
    from protocol.errors import RpcError
    from server.cli.reaching import address_of, token_for
    from server.cli.running import run_async

    address = address_of(settings, url)

    async def converse() -> T:
        source = token_for(settings, token, user, scopes)
        async with connect(address, source, own=False, settings=False, call_timeout_s=_PATIENCE_S) as live:
            try:
                await live.ping(timeout_s=_CONNECT_S)
                return await question(live)
            except ClientError as error:
                why = live.last_end.reason if live.last_end is not None else ""
                raise Stop(
                    f"{error} at {address}{f' ({why})' if why else ''}; is the server running there?"
                ) from error

    try:
        return run_async(converse)
    except RpcError as error:
        raise Stop(f"the server says no: {error}") from error
    except ValueError as error:
        raise Stop(str(error), 2) from error
