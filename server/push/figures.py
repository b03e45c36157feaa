"""What the push side says of itself: one frozen value, and the figures of `stats.update`."""

from __future__ import annotations

from server.push.admission import Admission, Readiness
from server.push.counters import PushStatistics
from server.push.feeds import Feeds
from server.push.hub import Hub
from server.push.registry import Registry

__all__ = ["push_statistics"]


def push_statistics(
    hub: Hub, registry: Registry, feeds: Feeds, admission: Admission, *, handshakes: int
) -> PushStatistics:
    """The push side as it is now. Looks at every connection: not for every second of a big replica."""
    counters = hub.counters
    subscriptions = background = unwritable = buffered = running = 0
    for connection in registry:
        subscriptions += len(connection.subs)
        background += connection.background
        running += connection.running
        if not connection.writable:
            unwritable += 1
            buffered += connection.transport.get_write_buffer_size()
    return PushStatistics(
        connections=registry.count,
        handshakes=handshakes,
        closing=registry.sockets - registry.count,
        users=registry.users,
        subscriptions=subscriptions,
        feeds=len(feeds),
        background=background,
        unwritable=unwritable,
        buffered_bytes=buffered,
        requests_running=running,
        draining=admission.readiness in {Readiness.DRAINING, Readiness.CLOSED},
        accepted=counters.accepted,
        refused=dict(counters.refused),
        closed=dict(counters.closed),
        resumes=dict(counters.resumes),
        http_requests=counters.http_requests,
        limits=dict(counters.limits),
        messages_in=counters.messages_in,
        bad_messages=counters.bad_messages,
        stray_responses=counters.stray_responses,
        rate_limited=counters.rate_limited,
        deltas=counters.deltas,
        snapshots=counters.snapshots,
        conflated=counters.conflated,
        bytes_out=counters.bytes_out,
        stuck=counters.stuck,
        push_age=counters.push_age.value,
        acked_age=counters.acked_age.value,
        method_seconds={name: figures.seconds.value for name, figures in counters.methods.items()},
        method_errors={
            (name, code): count
            for name, figures in counters.methods.items()
            for code, count in figures.errors.items()
        },
    )
