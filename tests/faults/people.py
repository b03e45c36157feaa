"""Who uses the servers: followers, who show what they are sent, and a writer for each user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Final, TypeVar
from uuid import uuid4

import anyio
from anyio import Event

from protocol.client import ClientError, LiveFeed, NotConnected, connect
from protocol.errors import RpcError
from protocol.frozen import JsonObject
from protocol.ids import UserId
from tests.faults.oracle import Oracle, shown_in
from tests.faults.town import Town

__all__ = ["Follower", "Writer"]

_T = TypeVar("_T")

_KEYS: Final = ("a", "b", "c", "d")
_USER: Final = "freya.user"
# Any number from 0 to 1 is in order for the jitter of a client that comes back; small ones keep a run short.
_JITTER: Final = 0.05


class Follower:
    """A client that stays connected, as far as it can, and reports every frame to the oracle."""

    def __init__(self, town: Town, oracle: Oracle, user: UserId, name: str, rng: Random) -> None:
        self.user = user
        self.name = name
        self.versions: dict[str, int] = {}
        self.broken: BaseException | None = None
        self.feed: LiveFeed | None = None
        self._town = town
        self._oracle = oracle
        self._rng = rng
        self._welcomed = Event()

    def differences(self) -> list[str]:
        """What it shows otherwise than it must."""
        assert self.feed is not None
        return self._oracle.differences(self.user, self.feed.state, self.versions)

    async def run(self) -> None:
        """Follows until cancelled."""
        async with connect(
            self._town.url,
            self._town.token(self.user),
            context=True,
            client=self.name,
            heartbeat_ms=5_000,
            draw=lambda: self._rng.random() * _JITTER,
            on_notification=self._heard,
        ) as self.feed:
            while True:
                await self._welcomed.wait()
                self._welcomed = Event()
                # What changed while we were away was told to others only.
                with suppress(RpcError, ClientError):
                    for source in await self.feed.list_sources():
                        self._versioned(source.source_id, source.version)

    def _heard(self, method: str, params: JsonObject) -> None:
        feed = self.feed
        assert feed is not None
        try:
            match method, params:
                case "connection.welcome", _:
                    self._welcomed.set()
                case "source.changed", {"source": {"sourceId": str(source), "version": int(version)}}:
                    self._versioned(source, version)
                case (("feed.snapshot" | "feed.delta"), _) if feed.state is not None:
                    assert feed.own.cursor is not None
                    self._oracle.saw(self.name, self.user, feed.state, feed.own.cursor)
                case _:
                    pass
        except AssertionError as violation:
            self.broken = self.broken or violation

    def _versioned(self, source: str, version: int) -> None:
        self.versions[source] = max(version, self.versions.get(source, 0))


class Writer:
    """One user's backend and devices: writes one thing after another, each until it is acknowledged."""

    def __init__(self, town: Town, oracle: Oracle, user: UserId, rng: Random) -> None:
        self.user = user
        self._town = town
        self._oracle = oracle
        self._expected = oracle.user(user)
        self._rng = rng
        self._may = Event()
        self.idle = Event()
        self._feed: LiveFeed

    def resume(self) -> None:
        """Has it write until `rest`."""
        self.idle = Event()
        self._may.set()

    def rest(self) -> None:
        """Has it stop after the write in hand; `idle` is set then."""
        self._may = Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with connect(
            self._town.url,
            self._town.token(self.user),
            settings=False,
            heartbeat_ms=5_000,
            call_timeout_s=5.0,
            draw=lambda: self._rng.random() * _JITTER,
        ) as self._feed:
            while True:
                if not self._may.is_set():
                    self.idle.set()
                await self._may.wait()
                await self._write()
                await anyio.sleep(self._rng.uniform(0.01, 0.1))

    async def _write(self) -> None:
        kinds = (self._publish, self._retract, self._patch, self._locate, self._dismiss)
        (do,) = self._rng.choices(kinds, weights=(5, 1, 3, 2, 2))
        await do()
        self._oracle.operations += 1

    async def _publish(self) -> None:
        key, number = self._rng.choice(_KEYS), self._oracle.next_number(self.user)
        data = {"user": self.user, "number": number}
        await self._acknowledged(
            lambda: self._feed.publish(self.user, [{"id": key, "type": "note", "data": data}])
        )
        self._expected.inbox[key] = number

    async def _retract(self) -> None:
        key = self._rng.choice(_KEYS)
        await self._acknowledged(lambda: self._feed.retract(self.user, [key]))
        self._expected.inbox.pop(key, None)

    async def _patch(self) -> None:
        number = self._oracle.next_number(self.user)

        async def patch() -> int:
            config = {"locale": f"en-{number:06d}"}
            return (await self._feed.patch_source(_USER, config=config)).version

        version = await self._acknowledged(patch)
        self._oracle.versioned(self.user, _USER, version)
        self._expected.settings = number

    async def _locate(self) -> None:
        number, key = self._oracle.next_number(self.user), str(uuid4())
        fix = {"lat": number / 1000, "lng": 0.0, "timestamp": datetime.now(UTC).isoformat()}
        await self._acknowledged(
            lambda: self._feed.execute("freya.location", "update-location", fix, key=key)
        )
        self._expected.location = number

    async def _dismiss(self) -> None:
        key, state = self._rng.choice(_KEYS), self._feed.state
        number = self._expected.inbox.get(key)
        # Only what is on the screen is sent away: an id alone does not say which content was meant.
        if state is not None and number is not None and shown_in(self.user, state).get(key) == number:
            await self._acknowledged(lambda: self._feed.dismiss(f"freya.inbox/{self.user}.{key}"))
            self._expected.dismissed[key] = number

    async def _acknowledged(self, do: Callable[[], Awaitable[_T]]) -> _T:
        """Repeats a request that does no harm twice until it is answered with success."""
        while True:
            try:
                return await do()
            except RpcError as refused:
                if not refused.temporary:
                    raise
            except ClientError as failed:
                if isinstance(failed, NotConnected) or getattr(failed, "repeatable", False):
                    continue
                raise
            await anyio.sleep(0.1)
