"""How a command reaches the server: the address and the token, found the way the server itself finds them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import typer

from protocol.ids import UserId
from server.cli.stop import Stop
from server.settings import Settings

__all__ = ["TokenOption", "UrlOption", "UserArgument", "UserOption", "address_of", "chosen_user", "token_for"]

UserArgument: TypeAlias = Annotated[str | None, typer.Argument(help="Whose feed.", show_default=False)]
UserOption: TypeAlias = Annotated[str | None, typer.Option("--user", help="The same, as an option.")]
UrlOption: TypeAlias = Annotated[
    str | None, typer.Option("--url", help="Server, like ws://HOST:PORT. Default: the one of these settings.")
]
TokenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token", help="A token; - reads it from standard input. Default: one made with the server's keys."
    ),
]

_TOKEN_TTL_S = 3600.0


def chosen_user(argument: str | None, option: str | None, example: str) -> UserId:
    """The one user that was named. Stops if it was none or two."""
    if (argument is None) == (option is None):
        raise Stop(f"name one user: {example}", 2)
    return UserId(argument or option or "")


def address_of(settings: Settings, url: str | None) -> str:
    """Where the server is: as given, else where a server with these settings listens on this machine."""
    if url is not None:
        return url
    host = settings.listening.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 -- not bound, asked
    scheme = "ws" if settings.listening.tls_cert is None else "wss"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.listening.port}"


def token_for(
    settings: Settings, given: str | None, user: UserId, scopes: Iterable[str] = ()
) -> str | Callable[[], Awaitable[str]]:
    """The token that was given, or a way to make as many as needed. Raises KeysUnusable."""
    from server.keys import KeysUnusable, token_keys
    from server.tokens import TokenOptions, mint

    if given is not None:
        return sys.stdin.readline().strip() if given == "-" else given
    keys, wanted = token_keys(settings), tuple(scopes)
    if keys.signer is None:
        raise KeysUnusable("the keys here only check tokens; give one with --token")
    options = TokenOptions(audience=settings.keys.jwt_audience, issuer=settings.keys.jwt_issuer)

    async def make() -> str:
        now = datetime.now(UTC)
        return mint(keys, user, now=now, ttl_s=_TOKEN_TTL_S, scopes=wanted, options=options)

    return make
