"""Items as sources make them, and answers as models write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from protocol.feed import FeedItem, Slot

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
INSIGHT = "at most twelve words"


def event(
    local: str = "standup",
    title: str = "Stand-up",
    *,
    slots: Mapping[str, Slot] | None = None,
    source: str = "test.calendar",
    **data: object,
) -> FeedItem:
    return FeedItem.make(
        id=f"{source}/{local}",
        source_id=source,
        type="event",
        timestamp=NOW,
        data={"title": title, **data},
        slots={"insight": Slot(INSIGHT, None)} if slots is None else slots,
    )


def plain(local: str = "note", text: str = "hello") -> FeedItem:
    return event(local, text, slots={}, source="test.notes")


def answer_text(fills: Mapping[str, object], synthetic: Sequence[object] = ()) -> str:
    return orjson.dumps({"slotFills": fills, "syntheticItems": list(synthetic)}).decode()
