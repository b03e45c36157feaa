"""One process of the driver. Reads commands, a JSON object a line; answers each by one, progress before it.

python -m tests.load.worker < commands
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import anyio
import orjson
import uvloop

from protocol.ids import UserId
from server.sources.synthetic import SYNTHETIC_ID, SyntheticConfig
from server.tokens import TokenKeys, mint
from tests.load.client import Client, Later, Refused, Target
from tests.load.following import Tally, now_s
from tests.load.histogram import Histogram, Timeline

__all__ = ["main"]

Json = dict[str, Any]
_TOKEN_S = 86_400.0
_LOOK_S = 0.05
_CONNECT_S = 600.0
_MAX_PROBLEMS = 20
_LATE_EVERY_S = 0.01
_TRIES = 5


class Worker:
    """Its clients, and what can be done with them."""

    def __init__(self, begin: Json) -> None:
        keys = TokenKeys.parse(begin["keys"])
        scopes: Sequence[str] = begin["scopes"]

        def token(user: str) -> str:
            return mint(keys, UserId(user), now=datetime.now(UTC), ttl_s=_TOKEN_S, scopes=scopes)

        target = self._target = Target(begin["host"], begin["port"], token, begin["sources"])
        self.tally = Tally()
        self.patches = Timeline()
        self.late = Timeline()
        """How late this process itself was: what arrived meanwhile is older than it need have been."""
        self.problems: list[str] = []
        self.clients = [
            Client(
                number,
                f"{begin['prefix']}{number}",
                target,
                self.tally,
                None if begin["config"] is None else _config(begin["config"], number, begin["watch"]),
                begin["watch"],
                counts_only=begin["countsOnly"],
            )
            for number in range(begin["first"], begin["first"] + begin["count"])
        ]
        self._connected = Histogram()

    async def run(self, command: Json) -> Json:
        """Does what the command says."""
        match command["do"]:
            case "connect":
                return await self._connect(command)
            case "move":
                self._target.host, self._target.port = command["host"], command["port"]
                return {}
            case "put":
                return await self._put(command["config"], command["sourceId"])
            case "settle":
                return await self._settle(command["moment"], command["patienceS"])
            case "stall":
                return self._stall(command["share"])
            case "resume":
                for client in self.clients:
                    client.go_on()
                return {}
            case "drop":
                for client in self.clients:
                    client.drop()
                return {}
            case "patch":
                return await self._patch(command)
            case "lost":
                return await self._lost(command["patienceS"])
            case "figures":
                return self._figures()
            case unknown:
                raise ValueError(f"no such command: {unknown}")

    async def watch_self(self) -> None:
        """Notes how late this process gets its turn, until cancelled."""
        while True:
            due = monotonic() + _LATE_EVERY_S
            await anyio.sleep(_LATE_EVERY_S)
            self.late.record(now_s(), (monotonic() - due) * 1000)

    async def leave(self) -> None:
        """Drops every connection."""
        for client in self.clients:
            client.drop()
        await anyio.sleep(_LOOK_S)  # for the loop to close them

    async def _connect(self, command: Json) -> Json:
        self._connected = Histogram()
        began = monotonic()

        async def connect(client: Client) -> None:
            try:
                await client.connect(command["query"], resume=command["resume"])
            except Refused as refused:
                self._problem(f"{client.user}: {refused}")
            else:
                self._connected.record(client.connected_s * 1000)

        with anyio.move_on_after(_CONNECT_S) as scope:
            if command["perS"]:
                await _paced(self.clients, command["perS"], connect)
            else:
                await _side_by_side(self.clients, command["atOnce"], connect)
        if scope.cancelled_caught:
            self._problem(f"after {_CONNECT_S:g} s there are only {self._connected.count} of us")
        return {
            "seconds": monotonic() - began,
            "connected": self._connected.wire(),
            "problems": self._take_problems(),
        }

    async def _put(self, config: Json, source_id: str) -> Json:
        at_once = anyio.CapacityLimiter(64)

        async def put(client: Client) -> None:
            own = dict(config)
            if source_id == SYNTHETIC_ID:
                own["seed"] = client.number
            params = {"sourceId": source_id, "enabled": True, "config": own}
            async with at_once:
                try:
                    await _patiently(lambda: client.ask("source.put", params))
                except Refused as refused:
                    self._problem(f"{client.user}: {refused}")

        await _paced(self.clients, 0.0, put)
        return {"problems": self._take_problems()}

    async def _settle(self, moment: float, patience_s: float) -> Json:
        """How many clients have not what was due at `moment`, after waiting for it."""
        missing: list[Client] = list(self.clients)
        with anyio.move_on_after(patience_s):
            while missing:
                missing = [client for client in missing if not client.follower.holds(moment)]
                if missing:
                    await anyio.sleep(_LOOK_S)
        for client in missing[:5]:
            self._problem(f"{client.user}: at tick {client.follower.tick}, and {client.lost or 'connected'}")
        return {"missing": len(missing), "problems": self._take_problems()}

    def _stall(self, share: float) -> Json:
        count = round(len(self.clients) * share)
        for client in self.clients[:count]:
            client.stall()
        return {"stalled": count}

    async def _patch(self, command: Json) -> Json:
        """Patches at the given rate, one client after another; each client ends with what it sent last."""
        # TimeOfDay and others don't care for this one, so that the feed's own checks stay as they are.
        source, key = "freya.reminders", "includeCompleted"
        sent: dict[int, bool] = {}
        rounds = max(1, round(command["perS"] * command["seconds"]))

        async def patch(number: int) -> None:
            client = self.clients[number % len(self.clients)]
            value = sent[client.number] = number // len(self.clients) % 2 == 0
            due = began + number / command["perS"]
            try:
                await client.ask("source.patch", {"sourceId": source, "config": {key: value}})
            except Refused as refused:
                self._problem(f"{client.user}: {refused}")
            self.patches.record(now_s(), (monotonic() - due) * 1000)

        began = monotonic()
        await _paced(range(rounds), command["perS"], patch)
        wrong = 0
        for client in self.clients:
            if client.number in sent:
                state = await client.ask("source.get", {"sourceId": source})
                wrong += state["config"].get(key) is not sent[client.number]
        return {"patches": rounds, "lost": wrong, "problems": self._take_problems()}

    async def _lost(self, patience_s: float) -> Json:
        """How the connections have ended, after waiting for all to end."""
        with anyio.move_on_after(patience_s):
            while any(client.lost is None for client in self.clients):  # noqa: ASYNC110 -- thousands end
                await anyio.sleep(_LOOK_S)
        reasons: dict[str, int] = {}
        for client in self.clients:
            reason = client.lost or "still there"
            reasons[reason] = reasons.get(reason, 0) + 1
        return {"reasons": reasons}

    def _figures(self) -> Json:
        tally = self.tally
        return {
            "latency": tally.latency.wire(),
            "age": tally.age.wire(),
            "patches": self.patches.wire(),
            "late": self.late.wire(),
            "deltas": tally.deltas,
            "snapshots": tally.snapshots,
            "bytesIn": tally.bytes_in,
            "ticks": tally.ticks,
            "conflated": tally.conflated,
            "faults": tally.faulty,
            "lost": sum(client.lost is not None for client in self.clients),
            "problems": tally.faults,
        }

    def _problem(self, text: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)

    def _take_problems(self) -> list[str]:
        taken, self.problems = self.problems, []
        return taken


async def _patiently(do: Callable[[], Coroutine[Any, Any, Json]]) -> None:
    """What a client does that means it: where the server asks for patience, it asks again, in the end for the
    last time. Raises Refused."""
    for _ in range(_TRIES - 1):
        try:
            await do()
        except Later as later:
            await anyio.sleep(later.after_s)
        else:
            return
    await do()


async def _side_by_side(
    what: Sequence[Any], at_once: int, do: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    """All of them, so many at a time. Few tasks do it one after another: one for each would cost as much as
    what is to be measured."""
    rest = iter(enumerate(what))
    every = max(1, len(what) // 20)

    async def work() -> None:
        for number, one in rest:
            await do(one)
            if number % every == 0:
                _say({"progress": number})

    async with anyio.create_task_group() as group:
        for _ in range(min(at_once, len(what))):
            group.start_soon(work)


async def _paced(
    what: Iterator[Any] | Sequence[Any], per_s: float, do: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    """Starts one thing after another by the clock, whether the ones before have ended or not; 0: all at once.
    Returns when all have ended."""
    began = monotonic()
    every = max(1, len(what) // 20) if isinstance(what, Sequence) else 100
    async with anyio.create_task_group() as group:
        for number, one in enumerate(what):
            wait_s = began + number / per_s - monotonic() if per_s else 0.0
            if wait_s > 0:
                await anyio.sleep(wait_s)
            group.start_soon(do, one)
            if number % every == 0:
                _say({"progress": number})


def _config(wire: Json, number: int, watch: str | None) -> SyntheticConfig:
    """Every user's feed has a seed of its own; that of a watched one is given."""
    return SyntheticConfig.model_validate(wire if watch is not None else {**wire, "seed": number})


def _say(answer: Json) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


async def _run() -> None:
    worker: Worker | None = None
    async with anyio.create_task_group() as group:
        async for line in anyio.wrap_file(sys.stdin.buffer):
            command: Json = orjson.loads(line)
            if worker is None:
                worker = Worker(command)
                group.start_soon(worker.watch_self)
                _say({"done": {}})
            else:
                _say({"done": await worker.run(command)})
        group.cancel_scope.cancel()
    if worker is not None:
        await worker.leave()


def main() -> None:
    """Runs until there are no more commands."""
    # It would stop for half a second to look at what thousands of clients hold, and all that came meanwhile
    # would be the server's delay. A run is short, and what is in circles is little.
    gc.disable()
    anyio.run(_run, backend_options={"loop_factory": uvloop.new_event_loop})


if __name__ == "__main__":
    main()
