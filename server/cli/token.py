"""freya token: tokens for development and tests, signed with the key that the server checks with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from protocol.ids import UserId
from server.cli.stop import Stop

__all__ = ["SCOPES", "expand", "seconds", "token"]

SCOPES = ("feed:watch", "feed:context", "item:publish", "admin")
_MAX_USERS = 1_000_000

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def token(
    user: Annotated[str | None, typer.Argument(help="Whose token.")] = None,
    user_option: Annotated[str | None, typer.Option("--user", help="The same, as an option.")] = None,
    users: Annotated[str | None, typer.Option(help="Many, one a line: 'load-{0..99}'.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(SCOPES)}; repeat for more.")
    ] = None,
    feeds: Annotated[
        list[str] | None, typer.Option(help="Narrow feed:watch and item:publish: 'team-*'.")
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 15m, 12h, 7d.")] = "24h",
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the server keeps its keys (FREYA_DATA_DIR).")
    ] = None,
) -> None:
    """Print a token, and nothing else. Never starts a database."""
    from server.keys import KeysUnusable, token_keys
    from server.settings import Settings
    from server.tokens import MalformedKeys, TokenOptions, mint

    if sum(given is not None for given in (user, user_option, users)) != 1:
        raise Stop("name one user (freya token alice) or a pattern (freya token --users 'load-{0..99}')", 2)
    scopes = [word for given in scope or () for word in re.split(r"[\s,]+", given) if word]
    if unknown := [word for word in scopes if word not in SCOPES]:
        raise Stop(f"{unknown[0]} is not a scope; there are {', '.join(SCOPES)}", 2)
    settings, lifetime_s = Settings.load(data_dir=data_dir), seconds(ttl)
    options = TokenOptions(audience=settings.keys.jwt_audience, issuer=settings.keys.jwt_issuer)
    try:
        keys, now = token_keys(settings), datetime.now(UTC)
        one = user or user_option
        for name in (one,) if one else expand(users or ""):
            made = mint(
                keys, UserId(name), now=now, ttl_s=lifetime_s, scopes=scopes, feeds=feeds, options=options
            )
            sys.stdout.write(made + "\n")
        sys.stdout.flush()
    except (KeysUnusable, MalformedKeys) as error:
        raise Stop(str(error)) from error


def expand(pattern: str) -> list[str]:
    """What a shell makes of braces: `a-{0..2}` is a-0 a-1 a-2, `{x,y}` is x y, `{00..10}` keeps its zeros."""
    names = list(islice(_expand(pattern), _MAX_USERS + 1))
    if len(names) > _MAX_USERS:
        raise Stop(f"that is more than {_MAX_USERS:,} users", 2)
    return names


def _expand(pattern: str) -> Iterator[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    head, rest = pattern[: braces.start()], pattern[braces.end() :]
    for middle in _alternatives(braces[1]):
        for tail in _expand(rest):
            yield head + middle + tail


def _alternatives(inside: str) -> Iterator[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        yield from inside.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    padded = any(len(end) > 1 and end.startswith("0") for end in numbers.groups())
    width = max(map(len, numbers.groups())) if padded else 0
    step = 1 if first <= last else -1
    for number in range(first, last + step, step):
        yield str(number).zfill(width)


def seconds(duration: str) -> float:
    """`90`, `90s`, `15m`, `12h` or `7d` as seconds. Stops on anything else."""
    parts = _DURATION.fullmatch(duration.strip())
    if parts is None or float(parts[1]) <= 0:
        raise Stop(f"{duration} is not a duration; write 90s, 15m, 12h or 7d", 2)
    return float(parts[1]) * _UNITS_S[parts[2]]
