"""The feed itself: immutable items and states, and the cursors that name them.

Everything here is a value. Differences between states are in `protocol.delta`, their bytes on the wire
in `protocol.encoding`.
"""

from __future__ import annotations

from protocol.feed.cursor import MAX_CURSOR_LENGTH, Cursor, cursor_text
from protocol.feed.item import FeedItem, Signals, Slot, TimeRelevance
from protocol.feed.parts import (
    ContextEntry,
    ContextKey,
    ContextPart,
    ErrorCode,
    Group,
    SourceError,
    context_key_bytes,
)
from protocol.feed.state import FeedState, sorted_context

__all__ = [
    "MAX_CURSOR_LENGTH",
    "ContextEntry",
    "ContextKey",
    "ContextPart",
    "Cursor",
    "ErrorCode",
    "FeedItem",
    "FeedState",
    "Group",
    "Signals",
    "Slot",
    "SourceError",
    "TimeRelevance",
    "context_key_bytes",
    "cursor_text",
    "sorted_context",
]
