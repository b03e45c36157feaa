"""The one HTTP client for the services we know: weather, transit, music.

Their addresses are the operator's, and no request carries anything of a user. So answers may be shared: calls
for the same thing at the same time are one, and what an upstream's Cache-Control allows is kept. What users
name themselves goes through `guarded`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import MappingProxyType
from typing import Final, TypeVar

import anyio
import httpx
from anyio.lowlevel import checkpoint
from hishel import CacheOptions
from hishel.httpx import AsyncCacheTransport
from pydantic import TypeAdapter, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from server.engine.clock import Clock
from server.engine.source import BadAnswer, RateLimited, SourceFailure, Unreachable
from server.upstream.counters import HostCounters, HostStatistics
from server.upstream.decoding import BodyDecoder, BodyTooLarge, UndecodableBody
from server.upstream.failures import again, failure_of_error, failure_of_status
from server.upstream.flights import Flights
from server.upstream.gates import HostGates
from server.upstream.http_cache import MemoryStorage
from server.upstream.network import tls_context

__all__ = ["ClientLimits", "UpstreamClient"]

T = TypeVar("T")

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
# Hosts are the operator's few; counters of more would mean that somebody passes users' addresses in here.
_MOST_HOSTS: Final = 64


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one call may cost."""

    total_s: float = 9.0
    """For everything, retries included: a little less than a source's own patience."""

    attempt_s: float = 5.0
    connect_s: float = 3.0
    attempts: int = 3
    wait_s: float = 0.4
    """The first pause between tries, at the most; it doubles, and chance takes some of it."""

    patience_s: float = 2.0
    """A Retry-After up to this long is waited for; a longer one is for the caller."""

    max_bytes: int = 8 * 1024 * 1024
    """Of a body, after decompression."""

    per_host: int = 8
    """Requests under way to one host."""

    cache_bytes: int = 32 * 1024 * 1024


class UpstreamClient:
    """See the module. Use as an async context manager; safe for any number of concurrent callers."""

    def __init__(
        self, clock: Clock, *, limits: ClientLimits | None = None, user_agent: str = "freya-push"
    ) -> None:
        self._clock = clock
        self._limits = limits or ClientLimits()
        self._counters: dict[str, HostCounters] = {}
        self._paused: dict[str, tuple[float, RateLimited]] = {}
        self._flights: Flights[str, bytes] = Flights()
        self._storage = MemoryStorage(clock, max_bytes=self._limits.cache_bytes)
        outward = httpx.AsyncHTTPTransport(
            verify=tls_context(),
            trust_env=False,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
        )
        self._gates = HostGates(self._limits.per_host)
        counted = _CountedTransport(outward, self._of_host)
        self._client = httpx.AsyncClient(
            transport=AsyncCacheTransport(counted, storage=self._storage, rfc=CacheOptions(shared=True)),
            headers={"User-Agent": user_agent, "Accept-Encoding": "gzip, deflate"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # keeps none, sends none
            timeout=httpx.Timeout(self._limits.attempt_s, connect=self._limits.connect_s),
            follow_redirects=True,
            trust_env=False,
        )

    async def __aenter__(self) -> UpstreamClient:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    async def get(
        self,
        who: str,
        url: str,
        *,
        params: Mapping[str, str] = _NO_HEADERS,
        headers: Mapping[str, str] = _NO_HEADERS,
        max_bytes: int | None = None,
    ) -> bytes:
        """The body of a successful answer; `who` is the service's name in messages.

        Raises a SourceFailure that is safe to show. Neither `params` nor `headers` may hold anything of a
        user: the answer is shared with whoever asks for the same address.
        """
        target = httpx.URL(url).copy_merge_params(dict(params))
        return await self._flights.join(
            str(target), lambda: self._patiently(who, target, headers, max_bytes or self._limits.max_bytes)
        )

    async def get_json(
        self,
        who: str,
        url: str,
        shape: TypeAdapter[T],
        *,
        params: Mapping[str, str] = _NO_HEADERS,
        headers: Mapping[str, str] = _NO_HEADERS,
        max_bytes: int = 256 * 1024,
    ) -> T:
        """The same, read as JSON of a certain shape; small enough to be read where it is.

        Raises BadAnswer for anything else.
        """
        body = await self.get(who, url, params=params, headers=headers, max_bytes=max_bytes)
        try:
            return shape.validate_json(body)
        except ValidationError:
            raise BadAnswer(f"{who} sent an answer that makes no sense") from None

    def statistics(self) -> Mapping[str, HostStatistics]:
        """By host."""
        return {host: counters.statistics() for host, counters in self._counters.items()}

    @property
    def joined(self) -> int:
        """Calls that were answered by another's request."""
        return self._flights.joined

    async def _patiently(
        self, who: str, target: httpx.URL, headers: Mapping[str, str], max_bytes: int
    ) -> bytes:
        """Tries again what may pass by itself."""
        self._check_pause(target.host)
        retrying = AsyncRetrying(
            sleep=anyio.sleep,
            stop=stop_after_attempt(self._limits.attempts),
            wait=self._pause_s,
            retry=retry_if_exception(self._may_pass),
            before_sleep=lambda _: self._count_retry(target.host),
            reraise=True,
        )
        try:
            with anyio.fail_after(self._limits.total_s):
                return await retrying(self._once, who, target, headers, max_bytes)
        except TimeoutError:
            self._of_host(target.host).failed("unreachable")
            raise Unreachable(f"{who} took too long to answer") from None
        except RateLimited as limited:
            self._pause(target.host, limited)
            raise

    async def _once(self, who: str, target: httpx.URL, headers: Mapping[str, str], max_bytes: int) -> bytes:
        counters = self._of_host(target.host)
        async with self._gates.through(target.host):
            begun_s = self._clock.monotonic()
            counters.under_way += 1
            try:
                return await self._read(who, target, headers, max_bytes)
            except SourceFailure as failure:
                counters.failed(failure.code)
                raise
            finally:
                counters.under_way -= 1
                counters.seconds += self._clock.monotonic() - begun_s

    async def _read(self, who: str, target: httpx.URL, headers: Mapping[str, str], max_bytes: int) -> bytes:
        try:
            async with self._client.stream("GET", target, headers=dict(headers)) as response:
                failure = failure_of_status(response.status_code, response.headers, who, self._clock)
                if failure is not None:
                    raise failure
                decoder = BodyDecoder(response.headers.get("content-encoding", ""), max_bytes)
                async for chunk in response.aiter_raw():
                    decoder.feed(chunk)
                    while decoder.step():
                        await checkpoint()
                self._count_cache(target.host, response.extensions.get("caching"))
                return decoder.finish()
        except httpx.TransportError as error:
            raise failure_of_error(error, who) from None
        except (httpx.TooManyRedirects, httpx.InvalidURL):
            raise BadAnswer(f"{who} redirects to nowhere") from None
        except BodyTooLarge:
            raise BadAnswer(f"{who} sent more than {max_bytes // 1024} KiB") from None
        except UndecodableBody:
            raise BadAnswer(f"{who} sent a broken answer") from None

    # Trying again

    def _may_pass(self, error: BaseException) -> bool:
        if isinstance(error, RateLimited):
            return error.retry_after_s is not None and error.retry_after_s <= self._limits.patience_s
        return isinstance(error, Unreachable) and (error.retry_after_s or 0.0) <= self._limits.patience_s

    def _pause_s(self, state: RetryCallState) -> float:
        error = None if state.outcome is None else state.outcome.exception()
        asked_s = error.retry_after_s if isinstance(error, SourceFailure) else None
        limits = self._limits
        backoff_s = wait_random_exponential(multiplier=limits.wait_s, max=limits.patience_s)(state)
        return max(backoff_s, asked_s or 0.0)

    def _pause(self, host: str, limited: RateLimited) -> None:
        """Leaves a host alone for as long as it asks: its limit is on us, whatever the address."""
        if limited.retry_after_s:
            until_s = self._clock.monotonic() + limited.retry_after_s
            self._paused[host] = (until_s, limited)

    def _check_pause(self, host: str) -> None:
        paused = self._paused.get(host)
        if paused is None:
            return
        left_s = paused[0] - self._clock.monotonic()
        if left_s > 0:
            raise again(paused[1], left_s)
        del self._paused[host]

    # Counting

    def _of_host(self, host: str) -> HostCounters:
        counters = self._counters.get(host)
        if counters is None:
            host = host if len(self._counters) < _MOST_HOSTS else "others"
            counters = self._counters.setdefault(host, HostCounters())
        return counters

    def _count_retry(self, host: str) -> None:
        self._of_host(host).retries += 1

    def _count_cache(self, host: str, caching: object) -> None:
        match caching:
            case {"from_cache": True, "revalidated": False}:
                self._of_host(host).hits += 1
            case {"from_cache": True}:
                self._of_host(host).revalidated += 1
            case _:
                pass


class _CountedTransport(httpx.AsyncBaseTransport):
    """The way out, below the cache: what comes by here is sent."""

    def __init__(self, outward: httpx.AsyncBaseTransport, counters_of: Callable[[str], HostCounters]) -> None:
        self._outward = outward
        self._counters_of = counters_of

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._counters_of(request.url.host).calls += 1
        response = await self._outward.handle_async_request(request)
        if "cache-control" not in response.headers and "expires" not in response.headers:
            # Without either, the cache would guess a tenth of the answer's age (RFC 9111 section 4.2.2):
            # for a service that reports what is now, a wrong guess.
            response.headers["cache-control"] = "max-age=0"
        return response

    async def aclose(self) -> None:
        await self._outward.aclose()
