"""freya.synthetic: items that change at a set rate, for load tests. Offered only where FREYA_SYNTHETIC=1.

The load driver (`tests/load`) checks every state it receives by the functions here. The whole list follows
from the config and the number of the last tick, and ticks follow from the wall clock: whoever watches
can tell from any state whether it is a right one, how many ticks were due, and how old each item is.
A tick that comes late still bears the moment at which it was due.
"""

from __future__ import annotations

import heapq
import math
from datetime import UTC, datetime
from itertools import count
from typing import Final

from pydantic import BaseModel, Field

from protocol.feed import FeedItem
from protocol.ids import SourceId, UserId
from server.engine.clock import Clock, Timer
from server.engine.source import FeedSource, SourceHandle
from server.sources.item_types import SYNTHETIC
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services

__all__ = [
    "SYNTHETIC_ID",
    "Metronome",
    "SyntheticConfig",
    "SyntheticProvider",
    "SyntheticSource",
    "due_at",
    "item_data",
    "last_tick_of",
    "tick_at",
]

SYNTHETIC_ID: Final = SourceId("freya.synthetic")

# The conjugate of the golden ratio: neighbouring seeds get phases far apart.
_SPREAD: Final = 0.6180339887498949
# Sources that tick before the loop gets its turn, in which their changes are pushed; each costs some 30 us.
_AT_ONCE: Final = 25
_PAUSE_S: Final = 0.002
_LETTERS: Final = "the quick brown fox jumps over the lazy dog and runs along the river bank at night " * 400


class SyntheticConfig(ConfigModel):
    """How many items, how big, and how often one of them changes."""

    items: int = Field(default=8, ge=1, le=2000, title="Items", description="How many there are.")
    bytes: int = Field(default=100, ge=0, le=30_000, title="Text", description="Bytes of text in each.")
    rate_per_s: float = Field(
        default=1.0, ge=0, le=1000, title="Rate", description="Changes a second; each changes one item."
    )
    seed: int = Field(
        default=0, ge=0, le=2**31, title="Seed", description="Feeds of different seeds change apart."
    )


def tick_at(config: SyntheticConfig, now: float) -> int:
    """The number of the last tick that was due at `now` (Unix seconds)."""
    return math.floor(now * config.rate_per_s + _phase(config))


def due_at(config: SyntheticConfig, tick: int) -> float:
    """When a tick is due, in Unix seconds."""
    return (tick - _phase(config)) / config.rate_per_s if config.rate_per_s else 0.0


def last_tick_of(config: SyntheticConfig, index: int, tick: int) -> int:
    """The tick that changed the item of that index last, as of `tick`."""
    return tick - (tick - index) % config.items


def item_data(config: SyntheticConfig, tick: int) -> dict[str, object]:
    """What the item that this tick has changed says."""
    return _data(config, tick, due_at(config, tick))


def _data(config: SyntheticConfig, tick: int, due: float) -> dict[str, object]:
    begin = tick * 7 % 83
    return {
        "tick": tick,
        "dueMs": round(due * 1000),
        "text": _LETTERS[begin : begin + config.bytes],
    }


def _phase(config: SyntheticConfig) -> float:
    return config.seed * _SPREAD % 1.0


class SyntheticSource(FeedSource):
    """Reports by itself alone, the first time when it is attached: it is never asked."""

    id = SYNTHETIC_ID
    refresh_every_s = 0

    def __init__(self, config: SyntheticConfig, metronome: Metronome) -> None:
        self.config = config
        self._metronome = metronome
        self._items: list[FeedItem] = []
        self._tick = 0
        self.closed = False

    def attach(self, handle: SourceHandle) -> None:
        super().attach(handle)
        config = self.config
        self._tick = tick_at(config, handle.now().timestamp())
        self._items = [self._item(last_tick_of(config, index, self._tick)) for index in range(config.items)]
        handle.push_items(tuple(self._items))
        if config.rate_per_s:
            self._metronome.watch(self, due_at(config, self._tick + 1))

    def tick(self, now: float) -> float:
        """Does the ticks that are due at `now`; returns when the next one is."""
        config = self.config
        last = tick_at(config, now)
        if last > self._tick:
            for number in range(max(self._tick + 1, last - config.items + 1), last + 1):
                self._items[number % config.items] = self._item(number)
            self._tick = last
            self.handle.push_items(tuple(self._items))
        # Later than now, whatever the rounding: nothing spins.
        return max(due_at(config, self._tick + 1), now + 0.001)

    async def aclose(self) -> None:
        self.closed = True

    def _item(self, tick: int) -> FeedItem:
        config = self.config
        due = due_at(config, tick)
        return self.item(
            str(tick % config.items),
            type=SYNTHETIC,
            timestamp=datetime.fromtimestamp(due, UTC),
            data=_data(config, tick, due),
        )


class Metronome:
    """One timer for all sources of a process. While it keeps up, it rings at most every `_PAUSE_S`, so that
    thousands of ticks a second are not as many turns of the event loop; a tick may be late by that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[float, int, SyntheticSource]] = []
        self._order = count()
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._not_before = 0.0

    def watch(self, source: SyntheticSource, at: float) -> None:
        """Calls the source's `tick` at that moment (Unix seconds), and whenever it asks for it then, until it
        is closed."""
        heapq.heappush(self._waiting, (at, next(self._order), source))
        self._arm()

    def close(self) -> None:
        """Calls nobody any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if not self._waiting:
            return
        at = max(self._waiting[0][0], self._not_before)
        if at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        delay_s = self._timer_at - self._clock.now().timestamp()
        self._timer = self._clock.call_later(max(0.0, delay_s), self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._clock.now().timestamp()
        left = _AT_ONCE
        while self._waiting and self._waiting[0][0] <= now and left:
            left -= 1
            _, _, source = heapq.heappop(self._waiting)
            if not source.closed:
                heapq.heappush(self._waiting, (source.tick(now), next(self._order), source))
        # Who is behind goes on in the next turn.
        self._not_before = now + _PAUSE_S if left else 0.0
        self._arm()


class SyntheticProvider(FeedProvider[SyntheticConfig]):
    """Makes `freya.synthetic`."""

    source_id = SYNTHETIC_ID
    name = "Synthetic"
    config_schema = SyntheticConfig
    builds_at_once = True

    def __init__(self) -> None:
        self._metronome: Metronome | None = None

    async def source_for_user(
        self, user: UserId, config: SyntheticConfig, credentials: BaseModel | None, services: Services
    ) -> SyntheticSource:
        if self._metronome is None:
            self._metronome = Metronome(services.clock)
        return SyntheticSource(config, self._metronome)

    async def aclose(self) -> None:
        if self._metronome is not None:
            self._metronome.close()
