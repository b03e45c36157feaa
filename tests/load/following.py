"""A feed as a client puts it together, and whether it is right.

Three things are held against every frame: the chain of cursors (`base` is what we have), the rules by which a
delta turns one list into the next, and the content itself, since any state of `freya.synthetic` follows from
its config and the number of its last tick.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from server.sources.synthetic import SYNTHETIC_ID, SyntheticConfig, item_data, last_tick_of, tick_at
from tests.load.histogram import Timeline

__all__ = ["Follower", "Tally", "apply_delta", "now_s"]

Json = dict[str, Any]
_MAX_FAULTS = 20
# Messages that are known, of which each may have come to all.
_REMEMBERED = 1000


class Tally:
    """What one process of the driver has counted."""

    def __init__(self) -> None:
        self.latency = Timeline()
        """From the moment at which a change was due to its arrival."""
        self.age = Timeline()
        """From a delta's `at` to its arrival."""
        self.deltas = self.snapshots = self.bytes_in = self.ticks = self.conflated = self.faulty = 0
        self.faults: list[str] = []
        self._read: dict[bytes, Json] = {}
        self._found: dict[int, _Found] = {}

    def fault(self, text: str) -> None:
        """Something is wrong with the server (or with the driver)."""
        self.faulty += 1
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(text)

    def read(self, payload: bytes) -> Json:
        """A message, parsed once for all sockets that get the same bytes."""
        message = self._read.get(payload)
        if message is None:
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
                self._found.clear()
            message = self._read[payload] = orjson.loads(payload)
        return message

    def known(self, params: Json) -> _Found | None:
        """What a client has found about this very message, if one has."""
        found = self._found.get(id(params))
        return found if found is not None and found.params is params else None

    def remember(self, found: _Found) -> None:
        """For all who get the same message."""
        self._found[id(found.params)] = found


@dataclass(frozen=True, slots=True)
class _Found:
    """A delta that was right, and what it makes of the state at its base: the same for all there."""

    params: Json
    before: int | None
    items: list[Json]
    tick: int | None
    at_s: float
    due_ms: Sequence[float]


class Follower:
    """One connection's view of one feed."""

    __slots__ = ("_config", "_tally", "cursor", "feed", "items", "tick")

    def __init__(self, feed: str, config: SyntheticConfig | None, tally: Tally) -> None:
        self.feed = feed
        self._config = config
        self._tally = tally
        self.cursor: str | None = None
        self.items: list[Json] = []
        self.tick: int | None = None
        """The last tick in the present state; None before there was one."""

    def expect(self, config: SyntheticConfig) -> None:
        """From now on the feed is made from another config."""
        self._config = config
        self.tick = None

    def snapshot(self, params: Json) -> None:
        """Everything anew."""
        self._tally.snapshots += 1
        self.items = list(params["items"])
        self.cursor = params["cursor"]
        self._check(())

    def delta(self, params: Json, now: float) -> None:
        """The next state."""
        tally = self._tally
        tally.deltas += 1
        if params["base"] != self.cursor:
            tally.fault(f"{self.feed}: a delta from {params['base']}, but we have {self.cursor}")
            return
        self.cursor = params["cursor"]
        found = tally.known(params)
        if found is None or found.before != self.tick:
            found = self._find(params)
            if found is None:
                return
        self._take(found, now)

    def _find(self, params: Json) -> _Found | None:
        """Applies and checks a delta; None where it is wrong."""
        tally, before, faulty = self._tally, self.tick, self._tally.faulty
        items = list(self.items)
        problem = apply_delta(items, params)
        if problem is not None:
            tally.fault(f"{self.feed}: {problem}")
            return None
        self.items = items
        put: Sequence[Json] = params.get("put", ())
        due_ms = self._check([entry["item"] for entry in put])
        found = _Found(params, before, items, self.tick, _seconds(params["at"]), due_ms)
        if tally.faulty == faulty:
            tally.remember(found)
        return found

    def _take(self, found: _Found, now: float) -> None:
        tally, before, tick = self._tally, found.before, found.tick
        self.items, self.tick = found.items, tick
        tally.age.record(now, (now - found.at_s) * 1000)
        for due_ms in found.due_ms:
            tally.latency.record(now, now * 1000 - due_ms)
        if before is not None and tick is not None and tick > before:
            tally.ticks += 1
            tally.conflated += tick - before - 1

    def holds(self, moment: float) -> bool:
        """Whether every tick that was due until then has arrived."""
        return self._config is None or (self.tick is not None and self.tick >= tick_at(self._config, moment))

    def _check(self, changed: Sequence[Json]) -> Sequence[float]:
        """Holds the state, of which these items are new, against the config; returns when (Unix milliseconds)
        that of the last tick was due."""
        config = self._config
        if config is None:
            return ()
        found = [item["data"] for item in self.items if item["sourceId"] == SYNTHETIC_ID]
        if not found:
            return ()  # it has just been switched on
        tick = max([data["tick"] for data in found])
        before = self.tick
        if before is not None and tick < before:
            self._tally.fault(f"{self.feed}: went back from tick {before} to {tick}")
        self.tick = tick
        for index, data in enumerate(found):
            if data["tick"] != last_tick_of(config, index, tick):
                self._tally.fault(f"{self.feed}: item {index} is of tick {data['tick']} at tick {tick}")
                return ()
        if len(found) != config.items:
            self._tally.fault(f"{self.feed}: {len(found)} items, not {config.items}")
        return self._check_content([item["data"] for item in changed if item["sourceId"] == SYNTHETIC_ID])

    def _check_content(self, changed: Sequence[Json]) -> Sequence[float]:
        assert self._config is not None
        for data in changed:
            if data != item_data(self._config, data["tick"]):
                self._tally.fault(f"{self.feed}: tick {data['tick']} says something else")
        return [data["dueMs"] for data in changed if data["tick"] == self.tick]


def apply_delta(items: list[Json], params: Mapping[str, Any]) -> str | None:
    """The protocol's rules for a delta, on a plain list; what is impossible about it, if something is."""
    remove: Sequence[str] = params.get("remove", ())
    put: Sequence[Json] = params.get("put", ())
    move: Sequence[Json] = params.get("move", ())
    if len(put) == 1 and not remove and not move:
        index, item = put[0]["index"], put[0]["item"]
        if index < len(items) and items[index]["id"] == item["id"]:
            items[index] = item
            return None
    held = {item["id"]: item for item in items}
    if not held.keys() >= {*remove, *(entry["id"] for entry in move)}:
        return "a delta removes or moves what is not there"
    away = {*remove, *(entry["id"] for entry in move), *(entry["item"]["id"] for entry in put)}
    kept = [item for item in items if item["id"] not in away]
    entries = [(entry["index"], entry["item"]) for entry in put]
    entries += [(entry["index"], held[entry["id"]]) for entry in move]
    for index, item in sorted(entries, key=lambda entry: entry[0]):
        if index > len(kept):
            return "a delta leaves a gap"
        kept.insert(index, item)
    items[:] = kept
    return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def now_s() -> float:
    """The wall clock, which the server on this machine shares."""
    return time.time()
