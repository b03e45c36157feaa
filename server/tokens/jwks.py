"""An issuer's published keys (RFC 7517), from a file or an address, read anew from time to time.

An outage of the issuer changes nothing for `max_age_s`: the keys last read go on. A key that left the set
stops working with the next reading. A token signed with a key not seen yet causes a reading at once, but
never more than one every few seconds, so that invented key ids cost the issuer nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
import httpx
import jwt
import orjson
import structlog
from anyio.abc import TaskStatus

from server.cannot_start import CannotStart
from server.tokens.keys import MalformedKeys, TokenKey, TokenKeys

__all__ = ["JwksOptions", "JwksUnavailable", "PublishedKeys", "parse"]

_MAX_BYTES = 256 * 1024
_MAX_KEYS = 64
_READ_ANEW_EVERY_S = 10.0

_log = structlog.get_logger(__name__)


class JwksUnavailable(CannotStart):
    """The key set could not be read. The text says where and why, and can be shown to an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksOptions:
    """`location` is a path or an http(s) address."""

    location: str
    refresh_s: float = 300.0
    max_age_s: float = 86_400.0
    timeout_s: float = 5.0


class PublishedKeys:
    """The keys as last read. `run` keeps them fresh; a `KeySource` for the verifier."""

    def __init__(self, options: JwksOptions, monotonic: Callable[[], float]) -> None:
        self._options = options
        self._monotonic = monotonic
        self._keys = TokenKeys(())
        self._version = 0
        self._lock = anyio.Lock()
        self._read_at = float("-inf")
        self._tried_at = float("-inf")
        self.failures = 0

    @property
    def keys(self) -> TokenKeys:
        """The keys as they are now; none once they are older than `max_age_s`."""
        return self._keys

    @property
    def version(self) -> int:
        """Another number whenever `keys` are others."""
        return self._version

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Reads the set, reports started, and reads it again every `refresh_s` until cancelled.

        Raises JwksUnavailable if the very first reading fails: a server without keys would refuse everybody.
        """
        await self.read_now()
        task_status.started()
        while True:
            await anyio.sleep(self._options.refresh_s)
            await self._read_or_log()

    async def read_anew(self) -> None:
        """Reads the set now, unless that was tried moments ago; callers at one time share a reading."""
        asked_at = self._monotonic()
        async with self._lock:
            if self._tried_at >= asked_at or asked_at - self._tried_at < _READ_ANEW_EVERY_S:
                return
            await self._read_or_log(locked=True)

    async def _read_or_log(self, *, locked: bool = False) -> None:
        try:
            await (self._read_locked() if locked else self.read_now())
        except JwksUnavailable as error:
            self.failures += 1
            _log.warning("jwks_unavailable", reason=str(error), keys=len(self._keys))
            if self._keys and self._monotonic() - self._read_at > self._options.max_age_s:
                self._replace(TokenKeys(()))

    async def read_now(self) -> None:
        """Reads the set. Raises JwksUnavailable."""
        async with self._lock:
            await self._read_locked()

    async def _read_locked(self) -> None:
        self._tried_at = self._monotonic()
        where = self._options.location
        try:
            with anyio.fail_after(self._options.timeout_s):
                data = await (_fetch(where) if _is_address(where) else _read_file(where))
            keys = parse(data)
        except (MalformedKeys, OSError, TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) if isinstance(error, MalformedKeys) else type(error).__name__
            raise JwksUnavailable(f"the key set at {where} can't be read: {reason}") from error
        self._read_at = self._monotonic()
        self._replace(keys)

    def _replace(self, keys: TokenKeys) -> None:
        if list(keys) != list(self._keys):
            self._keys = keys
            self._version += 1
            _log.info("jwks_changed", keys=[key.kid for key in keys])


def parse(data: bytes) -> TokenKeys:
    """The usable keys of a key set. Raises MalformedKeys if it is none, or if nothing in it is of use.

    Secrets (`oct`), keys for encryption and kinds we don't take are passed over, as RFC 7517 section 5 asks.
    """
    try:
        document: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedKeys("not JSON") from error
    entries = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise MalformedKeys("not a key set: it has no list of `keys`")
    found = (
        _parse_key(number, entry) for number, entry in enumerate(cast("list[object]", entries[:_MAX_KEYS]))
    )
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise MalformedKeys("no key in it is for a signature of ours")
    return TokenKeys(keys)


def _parse_key(number: int, entry: object) -> TokenKey | None:
    if not isinstance(entry, dict):
        return None
    key = cast("dict[str, object]", entry)
    if key.get("kty") == "oct" or key.get("use", "sig") != "sig":
        return None
    kid = str(key.get("kid", f"#{number}"))
    try:
        loaded = TokenKey.asymmetric(kid, jwt.PyJWK(key).key)
    except (jwt.PyJWTError, MalformedKeys, ValueError, TypeError, KeyError):
        return None
    return loaded if key.get("alg", loaded.algorithm) == loaded.algorithm else None


def _is_address(location: str) -> bool:
    return location.startswith(("http://", "https://"))


async def _read_file(path: str) -> bytes:
    return await anyio.to_thread.run_sync(lambda: Path(path).read_bytes()[: _MAX_BYTES + 1])


async def _fetch(address: str) -> bytes:
    async with httpx.AsyncClient(follow_redirects=False) as client, client.stream("GET", address) as answer:
        answer.raise_for_status()
        if answer.is_redirect:
            raise MalformedKeys("it redirects elsewhere; give the final address")
        data = b""
        async for chunk in answer.aiter_bytes():
            data += chunk
            if len(data) > _MAX_BYTES:
                raise MalformedKeys("it is too large")
        return data
