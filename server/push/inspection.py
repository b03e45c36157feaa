"""What this replica knows of one user, for an operator who asks why a feed is as it is."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.ids import UserId
from protocol.times import to_ms, to_wire
from server.push.connection import Connection
from server.push.hub import Hub
from server.push.registry import Closed, Registry
from server.session.history import FeedHistory, Revision
from server.session.manager import SessionManager

__all__ = ["inspect_user", "last_resume"]

# As many of the last revisions' causes are told.
_CAUSES = 16


def inspect_user(user: UserId, hub: Hub, registry: Registry, manager: SessionManager) -> Mapping[str, object]:
    """The wire's ReplicaView. Makes no session and asks nobody."""
    session = manager.live(user)
    return {
        "replica": hub.replica,
        "connections": [_connection(connection) for connection in registry.of(user)],
        "closes": [_closed(closed) for closed in registry.last_closed(user)],
        "sources": [] if session is None else session.source_states(),
        "causes": [] if session is None else _causes(session.history),
    }


def last_resume(connection: Connection) -> Mapping[str, object] | None:
    """How the connection's own feed began; None before it has, or where there is none."""
    sub = connection.subscription(connection.user)
    if sub is None or sub.resumed_at is None:
        return None
    return {"outcome": sub.resume, "at": to_wire(sub.resumed_at)}


def _connection(connection: Connection) -> dict[str, object]:
    told: dict[str, object] = {
        "connection": connection.id,
        "since": to_wire(connection.connected_at),
        "background": connection.background,
        "writable": connection.writable,
        "bufferedBytes": connection.transport.get_write_buffer_size(),
    }
    sub = connection.subscription(connection.user)
    optional = {
        "client": connection.client,
        "sent": None if sub is None else sub.cursor,
        "acked": None if sub is None else sub.acked,
        "lastResume": last_resume(connection),
    }
    return told | {name: value for name, value in optional.items() if value is not None}


def _closed(closed: Closed) -> dict[str, object]:
    told: dict[str, object] = {"at": to_wire(closed.at), "code": closed.code, "reason": closed.reason}
    return told if closed.client is None else told | {"client": closed.client}


def _causes(history: FeedHistory) -> list[dict[str, object]]:
    """Why the last revisions came about, the latest first."""
    current = history.current.number
    kept = (history.since(number) for number in range(current, max(0, current - _CAUSES), -1))
    return [_cause(revision) for revision in kept if revision is not None]


def _cause(revision: Revision) -> dict[str, object]:
    cause = revision.cause
    told: dict[str, object] = {} if cause.source_id is None else {"sourceId": cause.source_id}
    return told | {
        "trigger": cause.trigger,
        "computeMs": round(cause.compute_ms, 3),
        "waitedMs": to_ms(0.0),
        "merged": 1,
    }
