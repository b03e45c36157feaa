"""Tokens in, claims out; and the other way round for development, tests and operators' scripts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol, cast

import jwt
import orjson

from protocol.ids import UserId
from server.tokens.claims import MAX_TOKEN_BYTES, Claims, TokenOptions, TokenProblem, check, read
from server.tokens.keys import ALGORITHMS, MalformedKeys, TokenKey, TokenKeys

__all__ = ["KeySource", "TokenVerifier", "UnknownKey", "mint"]

# A token without a key id is tried against every key of its algorithm: that work must have an end.
_MAX_CANDIDATES = 8
_HEADERS = 32


class UnknownKey(TokenProblem):
    """Signed with a key that is not known here; a published key set read anew may know it."""

    def __init__(self) -> None:
        super().__init__("wrong", "the token is signed with a key that is not known here")


class KeySource(Protocol):
    """Keys that may change while the server runs, such as an issuer's published set."""

    @property
    def keys(self) -> TokenKeys:
        """The keys as they are now."""
        ...

    @property
    def version(self) -> int:
        """Another number whenever `keys` are others."""
        ...

    async def read_anew(self) -> None:
        """Looks for new keys now, unless that was done moments ago. Never raises but for cancellation."""
        ...


class TokenVerifier:
    """Verifies tokens. A good signature is remembered (at most `options.cached_signatures` of them, the
    longest unused forgotten first); what the claims allow at this moment is decided at every call.

    One event loop only; never blocks for longer than one signature check.
    """

    def __init__(
        self,
        keys: TokenKeys,
        options: TokenOptions,
        now: Callable[[], datetime],
        *,
        published: KeySource | None = None,
    ) -> None:
        self.options = options
        self._keys = keys
        self._now = now
        self._published = published
        self._verified: dict[bytes, Claims] = {}
        self._verified_with = -1
        self._jws = jwt.PyJWS(algorithms=list(ALGORITHMS))
        # The tokens of one key begin with the same header, word for word.
        self._header = lru_cache(maxsize=_HEADERS)(self._read_header)

    def verify(self, token: str) -> Claims:
        """The claims of a token that is valid now. Raises TokenProblem."""
        if not token:
            raise TokenProblem("missing", "a token is needed")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenProblem("wrong", f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        return check(self._signed_claims(token), self._now(), self.options)

    async def verify_fresh(self, token: str) -> Claims:
        """Like `verify`, but a token signed with an unknown key makes the published keys be read anew
        first, so that an issuer's new key works from its first token on. May wait for that reading (a few
        seconds at most).
        """
        try:
            return self.verify(token)
        except UnknownKey:
            if self._published is None:
                raise
            before = self._published.version
            await self._published.read_anew()
            if self._published.version == before:
                raise
            return self.verify(token)

    def _signed_claims(self, token: str) -> Claims:
        version = 0 if self._published is None else self._published.version
        if version != self._verified_with:  # a key may be gone: what it signed is to be looked at again
            self._verified.clear()
            self._verified_with = version
        # A digest stands for the token, so that the cache holds no credential and every entry has one size.
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.pop(digest, None)
        if claims is None:
            claims = read(self._signed_payload(token), self.options)
            while len(self._verified) >= self.options.cached_signatures:
                del self._verified[next(iter(self._verified))]
        self._verified[digest] = claims  # last in line again
        return claims

    def _signed_payload(self, token: str) -> dict[str, object]:
        try:
            header = self._header(token.partition(".")[0])
            for key in self._candidates(header):
                payload = self._open(token, key)
                if payload is not None:
                    return payload
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenProblem("wrong", "this is not a token that can be read") from error
        raise TokenProblem("wrong", "the token's signature is not right")

    def _read_header(self, segment: str) -> dict[str, object]:
        """Of a token that begins with that; the rest is looked at with the signature."""
        return self._jws.get_unverified_header(f"{segment}..")

    def _candidates(self, header: dict[str, object]) -> Iterable[TokenKey]:
        """The keys that the header's key id and algorithm leave. The algorithm is the key's, never the
        header's.
        """
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenProblem("wrong", f"the token's algorithm is none of {', '.join(ALGORITHMS)}")
        if kid is None:
            fitting = [key for key in self._all() if key.algorithm == algorithm]
            return fitting[:_MAX_CANDIDATES]
        key = self._keys.get(str(kid))
        if key is None and self._published is not None:
            key = self._published.keys.get(str(kid))
        if key is None:
            raise UnknownKey
        if key.algorithm != algorithm:
            raise TokenProblem("wrong", "the token's algorithm is not the one of its key")
        return (key,)

    def _all(self) -> Iterable[TokenKey]:
        yield from self._keys
        if self._published is not None:
            yield from self._published.keys

    def _open(self, token: str, key: TokenKey) -> dict[str, object] | None:
        """The payload, if this key signed it."""
        try:
            payload = self._jws.decode(token, key.prepared, algorithms=[key.algorithm])
        except jwt.InvalidSignatureError:
            return None
        claims: object = orjson.loads(payload)
        if not isinstance(claims, dict):
            raise TokenProblem("wrong", "the token's payload is not an object")
        return cast("dict[str, object]", claims)


def mint(
    keys: TokenKeys,
    user: UserId,
    *,
    now: datetime,
    ttl_s: float,
    scopes: Iterable[str] = (),
    feeds: Sequence[str] | None = None,
    options: TokenOptions | None = None,
) -> str:
    """A token for `user`, signed by the first key that can. Raises MalformedKeys if none can."""
    signer = keys.signer
    if signer is None or signer.signs is None:
        raise MalformedKeys("none of the keys can sign: they are public halves")
    claims: dict[str, object] = {
        "sub": user,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=ttl_s)).timestamp()),
    }
    if words := " ".join(scopes):
        claims["scope"] = words
    if feeds is not None:
        claims["feeds"] = list(feeds)
    if options is not None and options.audience is not None:
        claims["aud"] = options.audience
    if options is not None and options.issuer is not None:
        claims["iss"] = options.issuer
    return jwt.encode(claims, signer.signs, algorithm=signer.algorithm, headers={"kid": signer.kid})
