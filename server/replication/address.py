"""Where Redis is: the forms of REDIS_URL, and a client for each.

    redis://[user:password@]host[:port][/db]          one server
    rediss://...                                       the same over TLS
    unix:///path/to.sock[?db=0]                        a local socket
    redis+sentinel://[user:password@]host:port,host:port/SERVICE[?db=0]   the primary that sentinels name
    redis+cluster://[user:password@]host:port,host:port                   any node of a cluster

Pub/sub of a cluster reaches every node from any other, so of a cluster one node is enough; which one changes
when it is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from server.replication.redis_link import Connected

__all__ = ["RedisAddress"]

_PLAIN = ("redis", "rediss", "unix")
_MANY = ("redis+sentinel", "redis+cluster")
_DEFAULT_PORT = {"redis+sentinel": 26379, "redis+cluster": 6379}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A REDIS_URL that can be one. `connector` makes clients; `shown` is safe for logs and messages."""

    url: str
    timeout_s: float = 5.0
    """For connecting and for each answer; a subscription's silence is not limited by it."""

    @classmethod
    def parse(cls, url: str, *, timeout_s: float = 5.0) -> RedisAddress:
        """Raises ValueError with what is wrong; no password is in the message."""
        parts = urlsplit(url)
        if parts.scheme not in (*_PLAIN, *_MANY):
            raise ValueError(
                f"must begin with one of {', '.join(f'{name}://' for name in (*_PLAIN, *_MANY))}"
            )
        if parts.scheme == "redis+sentinel" and not parts.path.strip("/"):
            raise ValueError(
                "redis+sentinel:// needs the service's name: redis+sentinel://host:26379/mymaster"
            )
        if parts.scheme in _MANY:
            _nodes(parts.netloc, parts.scheme)
        else:
            try:
                _ = parts.port
            except ValueError:
                raise ValueError("the port must be a number from 1 to 65535") from None
        return cls(url, timeout_s)

    @property
    def shown(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def connector(self) -> Callable[[], Connected]:
        """Makes a client at each call. Of several nodes each call takes the next one."""
        parts = urlsplit(self.url)
        if parts.scheme == "redis+sentinel":
            return self._by_sentinel
        if parts.scheme == "redis+cluster":
            urls = cycle(self._node_urls())
            return lambda: self._client(next(urls))
        return lambda: self._client(self.url)

    def _client(self, url: str) -> Connected:
        return Connected(_from_url(url, **self._patience()))

    def _patience(self) -> dict[str, object]:
        # No retries in the library: a broken connection is the bus's business, which backs off and tells.
        return {
            "socket_connect_timeout": self.timeout_s,
            "socket_timeout": self.timeout_s,
            "retry": Retry(NoBackoff(), 0),
        }

    def _by_sentinel(self) -> Connected:
        parts = urlsplit(self.url)
        user, password = _credentials(parts.netloc)
        query = parse_qs(parts.query)
        patience = self._patience()
        sentinel = _sentinel(
            _nodes(parts.netloc, parts.scheme),
            sentinel_kwargs=patience,
            username=user,
            password=password,
            db=int(query.get("db", ["0"])[0]),
            **patience,
        )
        return Connected(sentinel.master_for(parts.path.strip("/")), tuple(sentinel.sentinels))

    def _node_urls(self) -> list[str]:
        parts = urlsplit(self.url)
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return [f"redis://{login}{host}:{port}" for host, port in _nodes(parts.netloc, parts.scheme)]


class _Sentinels(Protocol):
    """As much of the library's Sentinel as is used, since its own signatures leave gaps."""

    sentinels: list[Redis]

    def master_for(self, service_name: str) -> Redis: ...


# The library's own signatures leave gaps.
_from_url = cast("Callable[..., Redis]", Redis.from_url)  # pyright: ignore[reportUnknownMemberType] -- see above
_sentinel = cast("Callable[..., _Sentinels]", Sentinel)


def _nodes(netloc: str, scheme: str) -> list[tuple[str, int]]:
    nodes: list[tuple[str, int]] = []
    for node in netloc.rpartition("@")[2].split(","):
        host, _, port = node.strip().rpartition(":") if ":" in node else (node.strip(), "", "")
        if not host or (port and not port.isdigit()):
            raise ValueError("needs a list of host:port, separated by commas")
        nodes.append((host, int(port) if port else _DEFAULT_PORT[scheme]))
    return nodes


def _credentials(netloc: str) -> tuple[str | None, str | None]:
    login, _, _ = netloc.rpartition("@")
    user, _, password = login.partition(":")
    return unquote(user) or None, unquote(password) or None
