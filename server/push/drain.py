"""Leaving in order: everybody is told when to go, nobody all at once."""

from __future__ import annotations

from collections.abc import Iterable

from server.push import lifetime
from server.push.connection import Connection
from server.push.options import PushOptions

__all__ = ["drain_span_s", "send_away"]


def drain_span_s(options: PushOptions, connections: int) -> float:
    """Over how long so many connections are spread: what their reconnects cost the replicas that take them,
    within what is left of the drain after its delay. A little is kept for those that come in late.
    """
    longest = max(0.0, (options.drain_s - options.drain_delay_s) * 0.8)
    return min(longest, connections * options.reconnect_cost_s)


def send_away(connections: Iterable[Connection], *, after_s: float, span_s: float, draw: float) -> None:
    """Tells each its own time. Evenly spread, from a random start, whatever order they are in."""
    told = list(connections)
    for place, connection in enumerate(told):
        lifetime.leave_soon(connection, after_s + span_s * ((place + draw) / len(told)))
