"""One server as a process of its own, with a PostgreSQL and a Redis, and what it holds at a moment."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import anyio
import httpx

from protocol.ids import UserId
from server.tokens import TokenKeys, generate, mint
from storage.credentials import generate_key
from tests.load.client import Target
from tests.support.programs import Server, serving
from tests.support.redis import RedisServer

__all__ = ["House", "Sample", "open_house"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FIGURES = {
    "freya_tasks": "tasks",
    "freya_connections": "connections",
    "freya_handshakes": "handshakes",
    "freya_subscriptions": "subscriptions",
    "freya_requests_running": "requests",
    "freya_sessions": "sessions",
}
_POLL_S = 0.2
_LOOKS = 4
_LOOK_S = 0.02
_STILL = 3
_PATIENCE_S = 60.0
_TOKEN_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server held. All but `at_s` and `rss` are counts that have a right value at rest."""

    at_s: float
    rss: int
    tasks: int
    descriptors: int
    """But for those of connections to PostgreSQL, of which the pool keeps as many as were needed at once."""
    channels: int
    """Of Redis, that somebody has subscribed to."""
    connections: int
    handshakes: int
    subscriptions: int
    requests: int
    sessions: int

    @property
    def work(self) -> tuple[int, int, int]:
        """What changes while something is still being ended."""
        return self.tasks, self.sessions, self.channels

    def above(self, other: Sample) -> dict[str, tuple[int, int]]:
        """The counts of which there are more than in the other, with both."""
        names = [field.name for field in fields(self) if field.name not in {"at_s", "rss"}]
        pairs = {name: (int(getattr(other, name)), int(getattr(self, name))) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[1] > pair[0]}


class House:
    """A server that serves, and its Redis."""

    def __init__(self, server: Server, redis: RedisServer, keys: str) -> None:
        self.server = server
        self._redis = redis
        self._keys = TokenKeys.parse(keys)
        self._began_s = monotonic()

    @property
    def url(self) -> str:
        """Where its socket is."""
        return self.server.url

    def token(self, user: str) -> str:
        """The user's, who may publish too."""
        now = datetime.now(UTC)
        return mint(self._keys, UserId(user), now=now, ttl_s=_TOKEN_S, scopes=("item:publish",))

    def target(self, users: list[str]) -> Target:
        """For the driver's clients. Tokens are made once: they are as dear as a connect."""
        tokens = {user: self.token(user) for user in users}
        host, _, port = self.server.place.rpartition(":")
        return Target(host, int(port), tokens.__getitem__, 8)

    async def sample(self) -> Sample:
        """What it holds now."""
        async with httpx.AsyncClient(headers={"Connection": "close"}) as client:
            page = (await client.get(f"http://{self.server.place}/metrics", timeout=30)).text
        found = {
            name: float(value)
            for name, _, value in (line.partition(" ") for line in page.splitlines() if line[0] != "#")
            if name.startswith("freya_") and "{" not in name
        }
        folder = Path("/proc") / str(self.server.process.pid)
        return Sample(
            at_s=monotonic() - self._began_s,
            rss=int((folder / "statm").read_text().split()[1]) * _PAGE,
            descriptors=await _fewest_descriptors(folder / "fd") - int(found["freya_db_connections"]),
            channels=self._redis.array_size("PUBSUB CHANNELS *"),
            **{ours: int(found[theirs]) for theirs, ours in _FIGURES.items()},
        )

    async def at_rest(self, *, sessions: int | None = None, before: Sample | None = None) -> Sample:
        """A sample with nobody connected, no more sessions than that, and nothing under way: it stays as it
        is for a while, and nothing is above an earlier one's counts. Where that does not come within a
        minute, the last sample.
        """
        deadline = monotonic() + _PATIENCE_S
        last, same = await self.sample(), 0
        while monotonic() < deadline:
            # The request for the figures is a socket that is no connection.
            is_quiet = last.handshakes <= 1 and not (last.connections or last.requests)
            few = sessions is None or last.sessions <= sessions
            if same >= _STILL and is_quiet and few and (before is None or not last.above(before)):
                break
            await anyio.sleep(_POLL_S)
            sample = await self.sample()
            same = same + 1 if sample.work == last.work else 0
            last = sample
        return last


async def _fewest_descriptors(folder: Path) -> int:
    """Of a few looks: for a moment, the socket of the request for the figures is one of them."""
    fewest = len(os.listdir(folder))
    for _ in range(_LOOKS):
        await anyio.sleep(_LOOK_S)
        fewest = min(fewest, len(os.listdir(folder)))
    return fewest


@contextmanager
def open_house(database: str, redis: RedisServer, **settings: str) -> Generator[House]:
    """A server, ready. Its limits do not stand in the way of a driver."""
    keys = generate("HS256", "soak")
    ours = {
        "DATABASE_URL": database,
        "REDIS_URL": redis.url,
        "FREYA_JWT_KEYS": keys,
        "FREYA_CREDENTIAL_KEYS": generate_key("soak"),
        "FREYA_SYNTHETIC": "1",
        "FREYA_LOG_LEVEL": "warning",
        "FREYA_REQUESTS_PER_S": "10000",
        "FREYA_REQUEST_BURST": "10000",
        **settings,
    }
    with serving(settings=ours) as server:
        yield House(server, redis, keys)
