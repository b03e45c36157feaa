"""One user (or one dashboard) of the driver: connects, follows, asks, and can be told to stop reading."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import anyio
import orjson

from server.sources.synthetic import SyntheticConfig
from tests.load.following import Follower, Tally, now_s
from tests.load.link import Link, request_head

__all__ = ["Client", "Later", "Refused", "Target"]

Json = dict[str, Any]
_PATIENCE_S = 60.0


class Refused(Exception):
    """The server did not let us in, or a request was answered by an error."""


class Later(Refused):
    """The error passes, and nothing was done: the same may be asked again in `after_s`."""

    def __init__(self, text: str, after_s: float) -> None:
        super().__init__(text)
        self.after_s = after_s


class Target:
    """Where to connect (which may change), and from which addresses."""

    def __init__(self, host: str, port: int, mint: Callable[[str], str], sources: int) -> None:
        self.host = host
        self.port = port
        self.mint = mint
        self._sources = sources

    def source(self, number: int) -> tuple[str, int] | None:
        """The local address of a client: one holds some 28,000 sockets to one port."""
        return None if self._sources <= 1 else (f"127.0.0.{1 + number % self._sources}", 0)


class Client:
    """See the module. `watch` names another's feed, to be followed instead of one's own."""

    def __init__(
        self,
        number: int,
        user: str,
        target: Target,
        tally: Tally,
        config: SyntheticConfig | None,
        watch: str | None,
        *,
        counts_only: bool = False,
    ) -> None:
        self.number = number
        self.user = user
        self.watch = watch
        self.counts_only = counts_only
        """Whether frames are only counted: of a server that is no server of ours, or of one without feeds."""
        self.tally = tally
        self.follower = Follower(watch or user, config, tally)
        self.lost: str | None = None
        """How the connection has ended, None while it is there (or was never)."""
        self.connected_s = 0.0
        """What it took from TCP connect to the first state."""
        self._target = target
        self._token = target.mint(user)
        self._link: Link | None = None
        self._began = 0.0
        # No events of anyio's, of which each connect would pay for two: it is measured from here.
        self._has_state = False
        self._arrival: asyncio.Future[None] | None = None
        """Done with the first state, or with the end of the connection."""
        self._gone: anyio.Event | None = None
        self._replies: dict[int, tuple[anyio.Event, list[Json]]] = {}
        self._ids = 0

    async def connect(self, query: str = "", *, resume: bool = False) -> None:
        """Returns with the first state; waits for it as long as it takes. Raises Refused."""
        loop = asyncio.get_running_loop()
        self._has_state, self._gone, self.lost = False, None, None
        arrival = self._arrival = loop.create_future()
        if resume and self.follower.cursor is not None:
            query += f"&since={self.follower.cursor}"
        if self.watch is not None:
            query += "&own=0"
        head = request_head(f"{self._target.host}:{self._target.port}", self._token, query.lstrip("&"))
        link = self._link = Link(self, head)
        self._began = time.monotonic()
        try:
            await loop.create_connection(
                lambda: link,
                self._target.host,
                self._target.port,
                local_addr=self._target.source(self.number),
            )
        except OSError as problem:
            raise Refused(f"{type(problem).__name__}: {problem}") from problem
        await arrival
        if self.lost is not None:
            raise Refused(self.lost)

    async def ask(self, method: str, params: Json) -> Json:
        """The result of a request. Raises Refused."""
        self._ids += 1
        answered = anyio.Event()
        answer: list[Json] = []
        self._replies[self._ids] = answered, answer
        self._send(self._ids, method, params)
        try:
            with anyio.fail_after(_PATIENCE_S):
                await answered.wait()
        except TimeoutError as problem:
            raise Refused(f"{method}: no answer") from problem
        if not answer:
            raise Refused(f"{method}: {self.lost}")
        if "error" in answer[0]:
            error: Json = answer[0]["error"]
            text, data = f"{method}: {error}", cast("Json", error.get("data") or {})
            if data.get("temporary"):
                raise Later(text, data.get("retryInMs", 1000) / 1000)
            raise Refused(text)
        return answer[0]["result"]

    def drop(self) -> None:
        """Goes away without a word, with all it knows."""
        if self._link is not None:
            self._link.drop()

    async def leave(self) -> None:
        """Says goodbye and waits for the end of the connection."""
        if self._link is not None and self.lost is None:
            gone = self._gone = anyio.Event()
            self._link.say_goodbye()
            await gone.wait()

    def stall(self) -> None:
        """Reads nothing any more: the kernel's buffers fill, then the server's."""
        if self._link is not None and self._link.transport is not None:
            self._link.transport.pause_reading()

    def go_on(self) -> None:
        """Reads again."""
        if self._link is not None and self._link.transport is not None and self.lost is None:
            self._link.transport.resume_reading()

    # What the link tells

    def opened(self) -> None:
        """The upgrade was accepted."""
        if self.watch is not None:
            self._send(0, "feed.subscribe", {"feeds": [{"feed": self.watch}]})

    def received(self, payload: bytes) -> None:
        """A message."""
        self.tally.bytes_in += len(payload)
        if self.counts_only:
            self.tally.deltas += self._has_state
            self._is_ready()
            return
        message = self.tally.read(payload)
        method = message.get("method")
        if method == "feed.delta":
            self.follower.delta(message["params"], now_s())
        elif method == "feed.snapshot":
            self.follower.snapshot(message["params"])
        elif method is None:
            self._replied(message)
            return
        else:
            return
        self._is_ready()

    def closed(self, reason: str) -> None:
        """The connection is gone."""
        self.lost = reason
        if self._gone is not None:
            self._gone.set()
        self._arrived()
        for answered, _ in self._replies.values():
            answered.set()

    def _is_ready(self) -> None:
        if not self._has_state:
            self._has_state = True
            self.connected_s = time.monotonic() - self._began
            self._arrived()

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _send(self, number: int, method: str, params: Json) -> None:
        assert self._link is not None, "connect first"
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self._link.send(orjson.dumps(message))

    def _replied(self, message: Json) -> None:
        waiting = self._replies.pop(message["id"], None)
        if waiting is not None:
            waiting[1].append(message)
            waiting[0].set()
