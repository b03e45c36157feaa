"""The first words of a connection."""

from __future__ import annotations

import orjson

from protocol.encoding import notification
from protocol.messages.schemas import schema_digest
from protocol.times import to_ms, to_wire
from protocol.transport import MAX_FRAME_BYTES, PROTOCOL_VERSION
from server.push.connection import Connection
from server.push.frames import text_frame
from server.push.hub import Hub

__all__ = ["Welcome"]


class Welcome:
    """Makes `connection.welcome`; what is the same for all is encoded once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        options = hub.options
        limits = {
            "maxMessageBytes": options.max_message_bytes,
            "maxFrameBytes": MAX_FRAME_BYTES,
            "requestsPerS": options.requests_per_s,
            "burst": options.request_burst,
            "concurrent": options.max_concurrent_requests,
            "subscriptions": options.max_subscriptions,
            "items": options.max_item_count,
        }
        self._same = {
            "server": options.server,
            "protocol": PROTOCOL_VERSION,
            "schemaDigest": schema_digest(),
            "replica": hub.replica,
            "ackEveryMs": to_ms(options.ack_every_s),
            "limits": orjson.Fragment(orjson.dumps(limits)),
        }

    def frame(self, connection: Connection) -> bytes:
        """The frame for this connection. Never compressed: nobody else gets the same one."""
        params = self._same | {
            "connection": connection.id,
            "user": connection.user,
            "now": to_wire(self._hub.clock.now()),
            "expiresAt": to_wire(connection.bearer.claims.exp),
            "heartbeatMs": to_ms(connection.line.heartbeat_s),
        }
        return text_frame(notification("connection.welcome", params))
