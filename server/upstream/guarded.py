"""Fetching what users name: calendars, news feeds, accounts on servers of their own.

One GuardedFetcher serves the process. Every address is checked (network.py), also behind redirects; bodies
have a size, requests have a time, hosts have a number of connections. Errors are the engine's SourceFailures,
with nothing in them but the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

import anyio
import httpx

from server.engine.clock import Clock
from server.engine.source import (
    BadAnswer,
    ConfigProblem,
    RateLimited,
    SourceFailure,
    Unauthorized,
    Unreachable,
)
from server.upstream.decoding import BodyDecoder, BodyTooLarge, UndecodableBody
from server.upstream.network import ForbiddenAddress, GuardedBackend, GuardedTransport, Resolve, resolve

__all__ = ["Fetched", "GuardedFetcher", "GuardedLimits", "failure_of_status", "retry_after_s"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_RETRY_AFTER_S: Final = 24 * 3600.0
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GuardedLimits:
    """What one fetch may cost."""

    max_bytes: int = 8 * 1024 * 1024
    """Of a body, after decompression."""

    total_s: float = 20.0
    """For everything: resolving, connecting, redirects, the last byte of a slow drip."""

    connect_s: float = 5.0
    redirects: int = 5
    connections: int = 100
    at_once: int = 50
    """Fetches under way in the process; the next ones wait within their own time."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer below 400 (and 304), its body whole and decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str


class GuardedFetcher:
    """See the module. Use as an async context manager; safe for any number of concurrent callers."""

    def __init__(
        self,
        clock: Clock,
        *,
        allow_private: bool = False,
        limits: GuardedLimits | None = None,
        resolver: Resolve = resolve,
        user_agent: str = "freya-push",
    ) -> None:
        self._clock = clock
        self._limits = limits or GuardedLimits()
        self._gate = anyio.CapacityLimiter(self._limits.at_once)
        self._transport = GuardedTransport(
            GuardedBackend(allow_private=allow_private, resolver=resolver),
            limits=httpx.Limits(max_connections=self._limits.connections, max_keepalive_connections=20),
        )
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "gzip, deflate"}

    async def __aenter__(self) -> GuardedFetcher:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__(None, None, None)

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = _NO_HEADERS,
        auth: httpx.BasicAuth | None = None,
        content: bytes | None = None,
        max_bytes: int | None = None,
    ) -> Fetched:
        """One request, its redirects followed. 304 is an answer (send If-None-Match or the like).

        Credentials (`auth`, or an Authorization header) stay with the host they were meant for: a redirect to
        another origin goes without them. Raises a SourceFailure that is safe to show.
        """
        target = _parse(url)
        host = target.host
        try:
            with anyio.fail_after(self._limits.total_s):
                async with self._gate:
                    return await self._follow(target, method, headers, auth, content, max_bytes)
        except TimeoutError:
            raise Unreachable(f"{host} took too long to answer") from None
        except BodyTooLarge:
            raise BadAnswer(
                f"{host} sent more than {_mebibytes(max_bytes or self._limits.max_bytes)} MiB"
            ) from None
        except UndecodableBody:
            raise BadAnswer(f"{host} sent an answer that could not be decompressed") from None
        except httpx.TransportError as error:
            if _is_forbidden(error):
                raise ConfigProblem("that address is not on the public internet") from None
            raise Unreachable(f"{host} could not be reached") from None

    async def _follow(
        self,
        target: httpx.URL,
        method: str,
        headers: Mapping[str, str],
        auth: httpx.BasicAuth | None,
        content: bytes | None,
        max_bytes: int | None,
    ) -> Fetched:
        given = dict(headers)
        for _ in range(self._limits.redirects + 1):
            request = self._request(method, target, given, auth, content)
            answer = await self._send(request, max_bytes)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            following = _parse(str(target.join(location)))
            if _origin(following) != _origin(target):
                auth = None
                given = {
                    name: value
                    for name, value in given.items()
                    if name.lower() not in ("authorization", "cookie")
                }
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, content = "GET", None
            target = following
        raise BadAnswer(f"{target.host} redirects without end")

    def _request(
        self,
        method: str,
        target: httpx.URL,
        headers: Mapping[str, str],
        auth: httpx.BasicAuth | None,
        content: bytes | None,
    ) -> httpx.Request:
        limits = self._limits
        timeout = httpx.Timeout(limits.total_s, connect=limits.connect_s)
        request = httpx.Request(
            method,
            target,
            headers={**self._headers, **headers},
            content=content,
            extensions={"timeout": timeout.as_dict()},
        )
        # auth_flow of Basic authentication adds one header and asks for nothing back.
        return next(auth.sync_auth_flow(request)) if auth is not None else request

    async def _send(self, request: httpx.Request, max_bytes: int | None) -> Fetched:
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code in _REDIRECTS or response.status_code == 304:
                return Fetched(response.status_code, response.headers, b"", str(request.url))
            failure = failure_of_status(response, request.url.host, self._clock)
            if failure is not None:
                raise failure
            decoder = BodyDecoder(
                response.headers.get("content-encoding", ""), max_bytes or self._limits.max_bytes
            )
            assert isinstance(response.stream, httpx.AsyncByteStream)
            # Not aiter_bytes: httpx would inflate a whole chunk before anybody could count it.
            async for chunk in response.stream:
                decoder.feed(chunk)
            return Fetched(response.status_code, response.headers, decoder.finish(), str(request.url))
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await response.aclose()


def failure_of_status(response: httpx.Response, host: str, clock: Clock) -> SourceFailure | None:
    """The failure that a status code means, or None below 400. Nothing of the answer's text is in it."""
    status = response.status_code
    if status < 400:
        return None
    wait = retry_after_s(response.headers.get("retry-after"), clock)
    if status == 429:
        return RateLimited(f"{host} asks for fewer requests", retry_after_s=wait)
    if status in (401, 403):
        return Unauthorized(f"{host} refuses access ({status})")
    if status in (404, 410):
        return ConfigProblem(f"{host} has nothing at that address ({status})")
    if status >= 500:
        return Unreachable(f"{host} has a problem ({status})", retry_after_s=wait)
    return BadAnswer(f"{host} does not accept the request ({status})")


def retry_after_s(header: str | None, clock: Clock) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3), 0 to a day; None where it says nothing."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), _MOST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return min(max((at - clock.now()).total_seconds(), 0.0), _MOST_RETRY_AFTER_S)


def _parse(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise ConfigProblem("that is not a web address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigProblem("only http and https addresses can be read")
    if url.userinfo:
        raise ConfigProblem("a web address must not carry a user name or password")
    return url


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _is_forbidden(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return True
        cause = cause.__cause__
    return False


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:g}"
