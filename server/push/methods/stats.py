"""`stats.*`: live figures for operators."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.messages.base import NoParams
from protocol.messages.stats import StatsSubscribeParams
from protocol.times import from_ms
from server.push.endpoints import Call, Endpoint, Result, at_once
from server.push.methods.rooms import Rooms

__all__ = ["endpoints"]


def endpoints(rooms: Rooms) -> Sequence[Endpoint]:
    """The methods of this namespace."""
    stats = _Stats(rooms)
    return (
        at_once("stats.subscribe", StatsSubscribeParams, stats.subscribe),
        at_once("stats.unsubscribe", NoParams, stats.unsubscribe),
    )


class _Stats:
    def __init__(self, rooms: Rooms) -> None:
        self._hub = rooms.hub

    def subscribe(self, call: Call, params: StatsSubscribeParams) -> Result:
        life, now = call.connection.life, self._hub.clock.monotonic()
        life.stats_every_s = from_ms(params.every_ms)
        life.stats_at = now + life.stats_every_s
        call.connection.notify("stats.update", self._hub.members.figures())
        self._hub.sweeper.watch(call.connection, life.stats_at)
        return {}

    def unsubscribe(self, call: Call, params: NoParams) -> Result:
        call.connection.life.stats_at = None
        return {}
