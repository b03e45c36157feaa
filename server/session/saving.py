"""A source's last good answer as bytes, so that a restart blanks nobody's screen.

Best effort: what cannot be read back is as if it had never been saved.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

import orjson

from protocol.feed import ContextEntry, FeedItem
from server.engine.report import SavedSource

__all__ = ["decode_saved", "encode_saved"]

# In front of the JSON, so that a later form can be told from this one.
_FORM: Final = b"2"


def encode_saved(saved: SavedSource, version: int) -> bytes:
    """Items and context, and the version of the row that they come from; their bytes are joined as they are,
    nothing is encoded again."""
    items = b",".join([item.encoded for item in saved.items])
    context = b",".join([entry.encoded for entry in saved.context])
    key = orjson.dumps(saved.input_key)
    return b'%b{"items":[%b],"context":[%b],"inputKey":%b,"version":%d}' % (
        _FORM,
        items,
        context,
        key,
        version,
    )


def decode_saved(saved: bytes, saved_at: datetime, version: int) -> SavedSource | None:
    """What `encode_saved` made of the same version of the row, or None for anything else.

    The version, not the time, says what was saved: a replica that has not heard of a write yet may save after
    it what the source showed before.
    """
    if saved[:1] != _FORM:
        return None
    try:
        known = cast("dict[str, Any]", orjson.loads(saved[1:]))
        items = tuple([FeedItem.from_wire(item) for item in known["items"]])
        context = tuple([ContextEntry.from_wire(entry) for entry in known["context"]])
        key = known["inputKey"]
        if known["version"] != version:
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        # Another release's form, or a damaged row: the source is asked anyway.
        return None
    return SavedSource(items, context, saved_at, key if isinstance(key, str) else None)
