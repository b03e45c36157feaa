"""What a token says, once its signature is known to be good. Pure: the time comes in as an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from protocol.ids import UserId

__all__ = ["MAX_TOKEN_BYTES", "Claims", "ProblemKind", "TokenOptions", "TokenProblem", "check", "read"]

MAX_TOKEN_BYTES = 6 * 1024
"""PROTOCOL.md: what fits beside the rest of a handshake in the header limits of common proxies (8 KiB)."""

_MAX_USER_LENGTH = 256
_MAX_FEED_PATTERNS = 64

ProblemKind = Literal["missing", "expired", "wrong"]


class TokenProblem(Exception):
    """A token that opens nothing. `reason` is a sentence for the caller; it never repeats the token."""

    def __init__(self, kind: ProblemKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: ProblemKind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """What a token must say beside its signature. `leeway_s` forgives clocks that differ between machines."""

    audience: str | None = None
    issuer: str | None = None
    leeway_s: float = 30.0
    cached_signatures: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token allows. Times are UTC."""

    user: UserId
    scopes: frozenset[str]
    feeds: tuple[str, ...] | None
    """Patterns (a trailing `*` stands for anything) that narrow `feed:watch` and `item:publish`; None: any.
    """
    exp: datetime
    iat: datetime
    nbf: datetime | None = None
    jti: str | None = None


def read(payload: Mapping[str, object], options: TokenOptions) -> Claims:
    """The claims of a signed payload, whatever the time. TokenProblem("wrong") for what is missing or odd."""
    if options.issuer is not None and payload.get("iss") != options.issuer:
        raise _wrong("the token is from another issuer")
    if options.audience is not None and options.audience not in _words(payload.get("aud")):
        raise _wrong("the token is meant for another audience")
    jti = payload.get("jti")
    return Claims(
        user=_user(payload.get("sub")),
        scopes=_scopes(payload.get("scope")),
        feeds=_feeds(payload.get("feeds")),
        exp=_time("exp", payload.get("exp")),
        iat=_time("iat", payload.get("iat")),
        nbf=None if payload.get("nbf") is None else _time("nbf", payload.get("nbf")),
        jti=jti if isinstance(jti, str) else None,
    )


def check(claims: Claims, now: datetime, options: TokenOptions) -> Claims:
    """The same claims, if they hold at `now`; else TokenProblem. Asked at every use, cached signature or
    not.
    """
    leeway = timedelta(seconds=options.leeway_s)
    # Compared on this side of the sign, so that times at the edge of what a datetime can hold do no harm.
    if now - leeway >= claims.exp:
        raise TokenProblem("expired", "the token has expired")
    if now + leeway < max(claims.iat, claims.nbf or claims.iat):
        raise _wrong("the token is not valid yet; is this machine's clock right?")
    return claims


def _user(value: object) -> UserId:
    if not isinstance(value, str) or not value.strip():
        raise _wrong("the token names no user: `sub` is missing or empty")
    if len(value) > _MAX_USER_LENGTH or not value.isprintable():
        raise _wrong(f"`sub` must be at most {_MAX_USER_LENGTH} printable characters")
    return UserId(value)


def _scopes(value: object) -> frozenset[str]:
    """RFC 8693 section 4.2: one text of words. Lists, as some issuers write them, mean the same."""
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(_words(cast("list[object]", value)))
    raise _wrong("`scope` must be a text of words")


def _feeds(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    # Anything but a list of texts is refused: to take it for "no narrowing" would open every feed.
    entries = cast("list[object]", value) if isinstance(value, list) else [None]
    if not all(isinstance(entry, str) for entry in entries) or len(entries) > _MAX_FEED_PATTERNS:
        raise _wrong(f"`feeds` must be a list of at most {_MAX_FEED_PATTERNS} patterns")
    return _words(entries)


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(entry for entry in cast("list[object]", value) if isinstance(entry, str))
    return ()


def _time(name: str, value: object) -> datetime:
    if value is None:
        raise _wrong(f"the token has no `{name}`")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"`{name}` must be a number of seconds since 1970")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise _wrong(f"`{name}` is out of range") from error


def _wrong(reason: str) -> TokenProblem:
    return TokenProblem("wrong", reason)
