"""What is asked of the model for one feed: which slots are open, what else it may know. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import orjson

from protocol.feed import FeedItem

__all__ = ["MOST_ITEMS", "OpenItem", "PassRequest", "fingerprint", "has_open_slots", "request_for"]

MOST_ITEMS: Final = 40  # with open slots, of one call: the highest in the feed
_MOST_SLOTS: Final = 8  # of one item
_MOST_NAME: Final = 64
_MOST_OTHERS: Final = 60
_MOST_DATA_BYTES: Final = 4 * 1024  # of one item; one with more is left out
_MOST_BYTES: Final = 96 * 1024  # of all items together


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An item with slots that nobody has filled: their names with what is wanted in them."""

    item: FeedItem
    slots: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PassRequest:
    """One call's question. Two with the same `input_hash` would be answered alike."""

    open_items: Sequence[OpenItem]
    others: Sequence[FeedItem]
    input_hash: bytes


def has_open_slots(items: Iterable[FeedItem]) -> bool:
    """Whether there is anything to ask."""
    return any(slot.content is None for item in items if item.slots for slot in item.slots.values())


def request_for(items: Sequence[FeedItem]) -> PassRequest | None:
    """The question for a feed's items (fills laid over already, made-up ones left out); None if none is open.

    The hash is over the items that define slots and nothing else: their ids, data and slot descriptions. So
    the rest of the feed may move as it likes without costing a call.
    """
    room = _MOST_BYTES
    open_items: list[OpenItem] = []
    others: list[FeedItem] = []
    defining = blake2b(digest_size=16)
    for item in items:
        size = len(item.encoded)
        if item.slots:
            defining.update(_defining_bytes(item))
        wanted = _open_slots(item)
        if size > _MOST_DATA_BYTES or size > room:
            continue
        if wanted and len(open_items) < MOST_ITEMS:
            open_items.append(OpenItem(item, wanted))
        elif len(others) < _MOST_OTHERS:
            others.append(item)
        else:
            continue
        room -= size
    return PassRequest(open_items, others, defining.digest()) if open_items else None


def fingerprint(item: FeedItem) -> str:
    """Names the item's data: a fill holds while this is the same."""
    return blake2b(orjson.dumps(item.data, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()


def _open_slots(item: FeedItem) -> dict[str, str]:
    if not item.slots:
        return {}
    wanted = {
        name: slot.description
        for name, slot in item.slots.items()
        if slot.content is None and 0 < len(name) <= _MOST_NAME
    }
    return dict(list(wanted.items())[:_MOST_SLOTS])


def _defining_bytes(item: FeedItem) -> bytes:
    descriptions = {name: slot.description for name, slot in (item.slots or {}).items()}
    return orjson.dumps([item.id, item.data, descriptions], option=orjson.OPT_SORT_KEYS)
