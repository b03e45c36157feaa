"""freya keygen: new keys, in the form that the settings take."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

_Algorithm = Literal["HS256", "ES256", "RS256", "EdDSA"]

__all__ = ["keygen"]


def keygen(
    kind: Annotated[
        Literal["credentials", "jwt"], typer.Argument(help="For FREYA_CREDENTIAL_KEYS or for FREYA_JWT_KEYS.")
    ] = "credentials",
    alg: Annotated[_Algorithm, typer.Option(help="Of a jwt key.")] = "HS256",
    public: Annotated[
        bool, typer.Option(help="Read a jwt key from standard input; print its public half.")
    ] = False,
) -> None:
    """Print a new key, and nothing else."""
    from server.keys import new_key_id
    from server.tokens import generate
    from storage.credentials import generate_key

    if public:
        made = _public_half(sys.stdin.read())
    elif kind == "jwt":
        made = generate(alg, new_key_id())
    else:
        made = generate_key(new_key_id())
    sys.stdout.write(made + "\n")


def _public_half(text: str) -> str:
    from server.cli.stop import Stop
    from server.tokens import MalformedKeys, TokenKeys

    try:
        return ",".join(key.public_entry() for key in TokenKeys.parse(text))
    except MalformedKeys as error:
        raise Stop(str(error), 2) from error
