"""Fetching what users name: calendars, news feeds, accounts on servers of their own.

One GuardedFetcher serves the process. Every address is checked (`network`), also behind redirects; bodies
have a size, requests have a time, hosts have a number of connections. Errors are the engine's SourceFailures,
with nothing in them but the host. Nothing is kept or shared here, since requests may carry credentials:
`documents` does that for what anybody may read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import anyio
import httpx
from anyio import CapacityLimiter
from anyio.lowlevel import checkpoint

from server.engine.clock import Clock
from server.engine.source import BadAnswer, ConfigProblem, SourceFailure, Unreachable
from server.upstream.addresses import is_public
from server.upstream.counters import HostCounters, HostStatistics
from server.upstream.decoding import BodyDecoder, BodyTooLarge, UndecodableBody
from server.upstream.failures import failure_of_error, failure_of_status
from server.upstream.gates import HostGates
from server.upstream.network import GuardedBackend, GuardedTransport, MayReach, Resolve
from server.upstream.urls import origin, web_address

__all__ = ["Fetched", "GuardedFetcher", "GuardedLimits"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GuardedLimits:
    """What one fetch may cost."""

    max_bytes: int = 8 * 1024 * 1024
    """Of a body, on the wire as after decompression."""

    total_s: float = 20.0
    """For everything: waiting for a place, resolving, connecting, redirects, the last byte of a slow drip."""

    connect_s: float = 5.0
    redirects: int = 5
    per_host: int = 4
    """Fetches under way to one host: its slowness is not everybody's."""

    at_once: int = 50
    """Fetches under way in the process; the next ones wait within their own time."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer below 300, or 304; its body whole and decompressed."""

    status: int
    headers: Mapping[str, str]
    """By name, in any case of its letters."""
    body: bytes
    url: str
    """Where it came from, after redirects."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request, as it would be sent to `target`."""

    method: str
    target: httpx.URL
    headers: Mapping[str, str]
    auth: httpx.BasicAuth | None
    content: bytes | None
    max_bytes: int

    def redirected(self, status: int, location: str) -> _Ask:
        """The request that follows a redirect (RFC 9110 section 15.4). Raises SourceFailure.

        Credentials stay with the origin they were meant for.
        """
        try:
            target = web_address(str(self.target.join(location)))
        except (httpx.InvalidURL, ValueError):
            raise BadAnswer(f"{self.target.host} redirects to nowhere") from None
        method, content = self.method, self.content
        if status == 303 or (status in (301, 302) and method == "POST"):
            method, content = "GET", None
        if origin(target) == origin(self.target):
            return _Ask(method, target, self.headers, self.auth, content, self.max_bytes)
        public = {k: v for k, v in self.headers.items() if k.lower() not in ("authorization", "cookie")}
        return _Ask(method, target, public, None, content, self.max_bytes)


class GuardedFetcher:
    """See the module. Use as an async context manager; safe for any number of concurrent callers."""

    def __init__(
        self,
        clock: Clock,
        resolver: Resolve,
        *,
        may_reach: MayReach = is_public,
        limits: GuardedLimits | None = None,
        user_agent: str = "freya-push",
    ) -> None:
        self._clock = clock
        self._limits = limits or GuardedLimits()
        self._gates = HostGates(self._limits.per_host)
        self._gate = CapacityLimiter(self._limits.at_once)
        self._counters = HostCounters()
        self._transport = GuardedTransport(
            GuardedBackend(resolver, may_reach),
            limits=httpx.Limits(max_connections=self._limits.at_once, max_keepalive_connections=20),
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
        auth: tuple[str, str] | None = None,
        content: bytes | None = None,
        max_bytes: int | None = None,
    ) -> Fetched:
        """One request, its redirects followed. 304 is an answer (send If-None-Match or the like).

        Credentials (`auth`: name and password; or an Authorization header) stay with the origin they were
        meant for: a redirect elsewhere goes without them. Raises a SourceFailure that is safe to show.
        """
        basic = None if auth is None else httpx.BasicAuth(*auth)
        ask = _Ask(method, _parse(url), headers, basic, content, max_bytes or self._limits.max_bytes)
        begun_s = self._clock.monotonic()
        self._counters.under_way += 1
        try:
            return await self._within_time(ask)
        except SourceFailure as failure:
            self._counters.failed(failure.code)
            raise
        finally:
            self._counters.under_way -= 1
            self._counters.seconds += self._clock.monotonic() - begun_s

    def statistics(self) -> HostStatistics:
        """Of all hosts together: which ones there are is up to users."""
        return self._counters.statistics()

    async def _within_time(self, ask: _Ask) -> Fetched:
        host = ask.target.host
        try:
            with anyio.fail_after(self._limits.total_s):
                # The host's gate first: who waits for a slow host takes no place from the others.
                async with self._gates.through(host), self._gate:
                    return await self._follow(ask)
        except TimeoutError:
            raise Unreachable(f"{host} took too long to answer") from None
        except BodyTooLarge:
            raise BadAnswer(f"{host} sent more than {ask.max_bytes / 1024 / 1024:g} MiB") from None
        except UndecodableBody:
            raise BadAnswer(f"{host} sent an answer that could not be decompressed") from None
        except httpx.TransportError as error:
            raise failure_of_error(error, host) from None

    async def _follow(self, ask: _Ask) -> Fetched:
        for _ in range(self._limits.redirects + 1):
            answer = await self._send(ask)
            if answer.status not in _REDIRECTS:
                return answer
            ask = ask.redirected(answer.status, answer.headers.get("location", ""))
        raise BadAnswer(f"{ask.target.host} redirects without end")

    async def _send(self, ask: _Ask) -> Fetched:
        self._counters.calls += 1
        response = await self._transport.handle_async_request(self._request(ask))
        try:
            body = b""
            if response.status_code not in _REDIRECTS and response.status_code != 304:
                body = await self._body(ask, response)
            return Fetched(response.status_code, response.headers, body, str(ask.target))
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await response.aclose()

    async def _body(self, ask: _Ask, response: httpx.Response) -> bytes:
        host = ask.target.host
        failure = failure_of_status(response.status_code, response.headers, host, self._clock)
        if failure is not None:
            raise failure
        if response.status_code >= 300:
            raise BadAnswer(f"{host} sent an answer that makes no sense ({response.status_code})")
        decoder = BodyDecoder(response.headers.get("content-encoding", ""), ask.max_bytes)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        # Not aiter_bytes: httpx would inflate a whole chunk before anybody could count it.
        async for chunk in response.stream:
            decoder.feed(chunk)
            while decoder.step():
                await checkpoint()
        return decoder.finish()

    def _request(self, ask: _Ask) -> httpx.Request:
        timeout = httpx.Timeout(self._limits.total_s, connect=self._limits.connect_s)
        request = httpx.Request(
            ask.method,
            ask.target,
            headers={**self._headers, **ask.headers},
            content=ask.content,
            extensions={"timeout": timeout.as_dict()},
        )
        # auth_flow of Basic authentication adds one header and asks for nothing back.
        return request if ask.auth is None else next(ask.auth.sync_auth_flow(request))


def _parse(text: str) -> httpx.URL:
    try:
        return web_address(text)
    except ValueError as wrong:
        raise ConfigProblem(str(wrong)) from None
