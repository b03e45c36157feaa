"""From values to the bytes of a message: one JSON text, ready to be framed.

Nothing here parses, and nothing that was encoded before is encoded again: items and context entries
bring their own bytes, which are joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import orjson

from protocol.delta import ContextChange, Delta
from protocol.errors import RpcError
from protocol.feed import FeedItem, FeedState, Group, SourceError
from protocol.jsonrpc import RequestId
from protocol.times import to_wire

__all__ = [
    "delta_message",
    "error_response",
    "notification",
    "request",
    "response",
    "snapshot_message",
    "snapshot_result",
]

_SNAPSHOT: Final = b'{"jsonrpc":"2.0","method":"feed.snapshot","params":%b}'


def snapshot_message(feed: str, cursor: str, at: datetime, state: FeedState, *, context: bool) -> bytes:
    """`feed.snapshot`; `context` says whether the subscription asked for context."""
    return _SNAPSHOT % snapshot_result(feed, cursor, at, state, context=context)


def snapshot_result(feed: str, cursor: str, at: datetime, state: FeedState, *, context: bool) -> bytes:
    """The params of `feed.snapshot` alone, as `feed.get` answers them."""
    entries = b',"context":[%b]' % b",".join([entry.encoded for entry in state.context]) if context else b""
    return b'{%b,"items":[%b],"groups":%b,"errors":%b,"pending":%b%b}' % (
        _head(feed, None, cursor, at),
        b",".join([item.encoded for item in state.items]),
        _groups(state.groups),
        _errors(state.errors),
        orjson.dumps(state.pending),
        entries,
    )


def delta_message(
    feed: str,
    base: str,
    cursor: str,
    at: datetime,
    delta: Delta,
    *,
    context: bool,
    cause: Mapping[str, object] | None,
) -> bytes:
    """`feed.delta`; `context` and `cause` only for a subscription that asked for them."""
    parts = [
        b'{"jsonrpc":"2.0","method":"feed.delta","params":{',
        _head(feed, base, cursor, at),
    ]
    if delta.put:
        parts.append(b',"put":[%b]' % b",".join([_put(index, item) for index, item in delta.put]))
    if delta.move:
        moves = [{"index": index, "id": item_id} for index, item_id in delta.move]
        parts.append(b',"move":%b' % orjson.dumps(moves))
    if delta.remove:
        parts.append(b',"remove":%b' % orjson.dumps(delta.remove))
    if delta.groups is not None:
        parts.append(b',"groups":%b' % _groups(delta.groups))
    if delta.errors is not None:
        parts.append(b',"errors":%b' % _errors(delta.errors))
    if delta.pending is not None:
        parts.append(b',"pending":%b' % orjson.dumps(delta.pending))
    if context and delta.context is not None:
        parts.append(_context_change(delta.context))
    if cause is not None:
        parts.append(b',"cause":%b' % orjson.dumps(cause))
    parts.append(b"}}")
    return b"".join(parts)


def notification(method: str, params: object) -> bytes:
    """A notification. `params` is an object's bytes, put in as they are, or a value to encode."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (orjson.dumps(method), _value(params))


def request(request_id: RequestId, method: str, params: object) -> bytes:
    """A request. `params` is an object's bytes, put in as they are, or a value to encode."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (
        orjson.dumps(request_id),
        orjson.dumps(method),
        _value(params),
    )


def response(request_id: RequestId, result: object) -> bytes:
    """The answer to a request. `result` is bytes, put in as they are, or a value to encode."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(request_id), _value(result))


def error_response(request_id: RequestId | None, error: RpcError) -> bytes:
    """The error answer to a request; id None where the request's own could not be read."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (orjson.dumps(request_id), orjson.dumps(error.wire()))


def _head(feed: str, base: str | None, cursor: str, at: datetime) -> bytes:
    # Cursors and times are made of characters that JSON leaves alone; a feed's name may be anything.
    named = f'"base":"{base}",' if base is not None else ""
    return b'"feed":%b,%b' % (orjson.dumps(feed), f'{named}"cursor":"{cursor}","at":"{to_wire(at)}"'.encode())


def _put(index: int, item: FeedItem) -> bytes:
    return b'{"index":%d,"item":%b}' % (index, item.encoded)


def _groups(groups: tuple[Group, ...]) -> bytes:
    return orjson.dumps([group.wire() for group in groups]) if groups else b"[]"


def _errors(errors: tuple[SourceError, ...]) -> bytes:
    return orjson.dumps([error.wire() for error in errors]) if errors else b"[]"


def _context_change(change: ContextChange) -> bytes:
    return b',"context":{"set":[%b],"unset":[%b]}' % (
        b",".join([entry.encoded for entry in change.set]),
        b",".join(change.unset),
    )


def _value(value: object) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(value)
