"""The handlers, a module for each namespace of methods. Each checks little and delegates: who may call is
asked before, what is meant is the session's."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.messages import METHODS
from server.push.endpoints import Endpoint
from server.push.methods import connection, feed, item, provider, source, stats, user
from server.push.methods.rooms import Rooms

__all__ = ["all_endpoints"]


def all_endpoints(rooms: Rooms) -> Mapping[str, Endpoint]:
    """Every method of the contract with its handler."""
    found = {
        endpoint.method.name: endpoint
        for module in (feed, source, item, connection, user, provider, stats)
        for endpoint in module.endpoints(rooms)
    }
    assert found.keys() == METHODS.keys(), "a method without a handler, or a handler without a method"
    return found
