"""A model for every method's params and result and for every notification: the one source of validation,
JSON Schema and AsyncAPI.

One module per namespace; `METHODS` and `NOTIFICATIONS` are all of them by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.messages import connection, feed, item, provider, source, stats, user
from protocol.messages.base import Method, Notice, Params, Scope, WireModel, issues_of

__all__ = ["METHODS", "NOTIFICATIONS", "Method", "Notice", "Params", "Scope", "WireModel", "issues_of"]

METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for module in (feed, source, item, connection, user, provider, stats)
    for method in module.METHODS
}

NOTIFICATIONS: Final[Mapping[str, Notice]] = {
    notice.name: notice for module in (connection, feed, source, stats) for notice in module.NOTIFICATIONS
}
