"""What the model has said, kept and laid over the feed: fills by item and slot, and the made-up items. Pure.

A fill holds while the item's data and the slot's description are what they were when it was written. Nothing
else in here decides: not time, not the run it came from, not the order of the feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, get_args

from protocol.feed import FeedItem, Signals, Slot
from protocol.frozen import JsonObject, JsonValue
from protocol.times import from_wire, to_wire
from server.enhancement.answer import PassAnswer, SyntheticType
from server.enhancement.request import PassRequest, fingerprint

__all__ = ["EMPTY", "ENHANCEMENT_ID", "ItemFills", "KeptAnswers", "Layer", "merge", "read_kept"]

ENHANCEMENT_ID: Final = "freya.enhancement"
_MOST_KEPT: Final = 200  # items with fills; the ones asked for last stay
_URGENCY: Final[Mapping[str, float]] = {"briefing": 0.4, "nudge": 0.6, "insight": 0.3}


@dataclass(frozen=True, slots=True)
class ItemFills:
    """The texts of one item's slots: for data of this fingerprint, each with the description it answers."""

    of: str
    slots: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """All that is kept of one user. `input_hash`: the last question that was answered."""

    input_hash: bytes | None
    fills: Mapping[str, ItemFills]
    synthetic: tuple[FeedItem, ...]

    def fills_json(self) -> JsonObject:
        """For the store."""
        return {
            item_id: {"of": kept.of, "slots": {name: list(pair) for name, pair in kept.slots.items()}}
            for item_id, kept in self.fills.items()
        }

    def synthetic_json(self) -> list[JsonObject]:
        """For the store."""
        return [
            {
                "id": item.id.removeprefix(f"{ENHANCEMENT_ID}/"),
                "type": item.type,
                "text": item.data["text"],
                "at": to_wire(item.timestamp),
                "expiresAt": to_wire(item.expires_at),
            }
            for item in self.synthetic
            if item.expires_at is not None
        ]


EMPTY: Final = KeptAnswers(None, MappingProxyType({}), ())


def read_kept(input_hash: bytes | None, fills: JsonObject, synthetic: Iterable[JsonObject]) -> KeptAnswers:
    """What was stored. An entry of another shape (written by another version) is left out."""
    kept = {item_id: one for item_id, value in fills.items() if (one := _read_fills(value)) is not None}
    items = [item for value in synthetic if (item := _read_synthetic(value)) is not None]
    return KeptAnswers(input_hash, kept, tuple(items))


def merge(
    old: KeptAnswers, request: PassRequest, answer: PassAnswer, now: datetime, synthetic_ttl_s: float
) -> KeptAnswers:
    """What is kept after `answer`: new fills over old ones, the made-up items anew."""
    fills = dict(old.fills)
    for one in request.open_items:
        texts = answer.fills.get(one.item.id)
        if texts is None:
            continue
        of = fingerprint(one.item)
        before = fills.pop(one.item.id, None)
        slots = dict(before.slots) if before is not None and before.of == of else {}
        slots.update({name: (one.slots[name], text) for name, text in texts.items() if name in one.slots})
        fills[one.item.id] = ItemFills(of, slots)
    newest = list(fills.items())[-_MOST_KEPT:]
    until = now + timedelta(seconds=synthetic_ttl_s)
    made_up = [_synthetic(one.id, one.type, one.text, now, until) for one in answer.synthetic]
    return KeptAnswers(request.input_hash, dict(newest), tuple(made_up))


class Layer:
    """One session's kept answers, laid over its items.

    An item that stays the same object gets the same filled object again, so that what did not change is not
    encoded twice.
    """

    __slots__ = ("_filled", "kept")

    def __init__(self) -> None:
        self.kept = EMPTY
        self._filled: dict[str, tuple[FeedItem, FeedItem]] = {}

    def replace(self, kept: KeptAnswers) -> None:
        """Other answers from now on; made-up items that are the same stay the same objects."""
        same = {item.encoded: item for item in self.kept.synthetic}
        synthetic = tuple([same.get(item.encoded, item) for item in kept.synthetic])
        self.kept = replace(kept, synthetic=synthetic)
        self._filled = {}

    def lay(self, items: tuple[FeedItem, ...], now: datetime) -> tuple[FeedItem, ...]:
        """The items with open slots filled and made-up items added: briefings first, the others last. The
        same tuple where there is nothing to do."""
        kept = self.kept
        if kept.fills:
            filled = [self._fill(item) if item.slots else item for item in items]
            if any(new is not old for new, old in zip(filled, items, strict=True)):
                items = tuple(filled)
        shown = [item for item in kept.synthetic if not item.is_expired(now)]
        if not shown:
            return items
        first = [item for item in shown if item.type == "briefing"]
        last = [item for item in shown if item.type != "briefing"]
        return (*first, *items, *last)

    def next_expiry(self, now: datetime) -> datetime | None:
        """When the first made-up item is to go."""
        ends = [item.expires_at for item in self.kept.synthetic if item.expires_at is not None]
        return min((end for end in ends if end > now), default=None)

    def _fill(self, item: FeedItem) -> FeedItem:
        kept = self.kept.fills.get(item.id)
        if kept is None:
            return item
        known = self._filled.get(item.id)
        if known is None or known[0] is not item:
            known = self._filled[item.id] = (item, _filled(item, kept))
        return known[1]


def _filled(item: FeedItem, kept: ItemFills) -> FeedItem:
    slots = dict(item.slots or {})
    for name, (description, text) in kept.slots.items():
        slot = slots.get(name)
        if slot is not None and slot.content is None and slot.description == description:
            slots[name] = Slot(description, text)
    if slots == item.slots or kept.of != fingerprint(item):
        return item
    return item.with_(slots=slots)


def _synthetic(local_id: str, kind: SyntheticType, text: str, at: datetime, until: datetime) -> FeedItem:
    return FeedItem.make(
        id=f"{ENHANCEMENT_ID}/{local_id}",
        source_id=ENHANCEMENT_ID,
        type=kind,
        timestamp=at,
        data={"text": text},
        signals=Signals(_URGENCY[kind], "ambient"),
        expires_at=until,
    )


def _read_fills(value: JsonValue) -> ItemFills | None:
    if not isinstance(value, dict):
        return None
    of, slots = value.get("of"), value.get("slots")
    if not isinstance(of, str) or not isinstance(slots, dict):
        return None
    read: dict[str, tuple[str, str]] = {}
    for name, pair in slots.items():
        match pair:
            case [str(description), str(text)]:
                read[name] = (description, text)
            case _:
                return None
    return ItemFills(of, read)


def _read_synthetic(value: JsonObject) -> FeedItem | None:
    match value:
        case {
            "id": str(local_id),
            "type": str(kind),
            "text": str(text),
            "at": str(at),
            "expiresAt": str(until),
        }:
            known: dict[str, SyntheticType] = {name: name for name in get_args(SyntheticType)}
            if kind not in known:
                return None
            try:
                return _synthetic(local_id, known[kind], text, from_wire(at), from_wire(until))
            except ValueError:
                return None
        case _:
            return None
