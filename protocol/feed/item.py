"""One card of a feed, which never changes once it is made and is encoded at most once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

import orjson

from protocol import times
from protocol.feed import reading
from protocol.frozen import FrozenDict, JsonObject, JsonValue, NotJson, freeze, freeze_shape

__all__ = ["FeedItem", "Signals", "Slot", "TimeRelevance"]

TimeRelevance: TypeAlias = Literal["imminent", "upcoming", "ambient"]

_TIME_RELEVANCE: Final[Mapping[str, TimeRelevance]] = {word: word for word in get_args(TimeRelevance)}


# U+0000 as JSON writes it, and not the text of that escape behind a backslash.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class _Keep(Enum):
    """What an argument of `FeedItem.with_` says when it is not given (None would mean: take it away)."""

    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Signals:
    """How much an item wants to be seen: `urgency` from 0 to 1, and how near in time it is."""

    urgency: float | None = None
    time_relevance: TimeRelevance | None = None

    def __post_init__(self) -> None:
        if self.urgency is not None and not 0 <= self.urgency <= 1:
            raise NotJson("not between 0 and 1", ("urgency",))

    def __bool__(self) -> bool:
        return self.urgency is not None or self.time_relevance is not None

    def wire(self) -> dict[str, JsonValue]:
        """The wire object, without what is not set."""
        obj: dict[str, JsonValue] = {}
        if self.urgency is not None:
            # Always a float, so that 1 and 1.0 are the same bytes.
            obj["urgency"] = float(self.urgency)
        if self.time_relevance is not None:
            obj["timeRelevance"] = self.time_relevance
        return obj

    @classmethod
    def from_wire(cls, obj: JsonObject) -> Signals:
        """Reads the wire object. Raises ValueError; a time relevance nobody knows is passed over."""
        return cls(
            reading.number_or_none(obj, "urgency"),
            _TIME_RELEVANCE.get(reading.text_or_none(obj, "timeRelevance") or ""),
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in an item that waits for a text: what is wanted there, and the text once there is one."""

    description: str
    content: str | None = None

    def wire(self) -> dict[str, JsonValue]:
        """The wire object."""
        return {"content": self.content, "description": self.description}

    @classmethod
    def from_wire(cls, obj: JsonObject) -> Slot:
        """Reads the wire object. Raises ValueError."""
        return cls(reading.text(obj, "description"), reading.text_or_none(obj, "content"))


@dataclass(frozen=True, slots=True, eq=False)
class FeedItem:
    """One item. Build it with `make` (checked and frozen) or `from_wire`; change it with `with_`.

    Two items are equal when their wire bytes are. `timestamp` is the content's time, not the run's.
    """

    id: str
    source_id: str
    type: str
    timestamp: datetime
    data: FrozenDict
    signals: Signals | None = None
    slots: Mapping[str, Slot] | None = None
    ui: JsonValue = None
    expires_at: datetime | None = None
    _encoded: bytes | None = field(default=None, init=False, repr=False)
    _digest: bytes | None = field(default=None, init=False, repr=False)

    @classmethod
    def make(
        cls,
        *,
        id: str,  # noqa: A002 -- the protocol's own word for it
        source_id: str,
        type: str,  # noqa: A002 -- the protocol's own word for it
        timestamp: datetime,
        data: Mapping[str, object],
        signals: Signals | None = None,
        slots: Mapping[str, Slot] | None = None,
        ui: object = None,
        expires_at: datetime | None = None,
    ) -> FeedItem:
        """An item with its `data` and `ui` frozen, its times in UTC, and its wire bytes made.

        Raises ValueError, with the path, for what cannot be on the wire: an id that does not start with
        the source's id and a slash, a time without a zone, values that are not JSON.
        """
        if not id.startswith(source_id + "/") or len(id) == len(source_id) + 1:
            raise NotJson(f"not of the form {source_id}/LOCAL", ("id",))
        try:
            item = cls(
                id,
                source_id,
                type,
                _utc("timestamp", timestamp),
                _shape(data),
                signals or None,
                MappingProxyType(dict(slots)) if slots else None,
                None if ui is None else freeze_shape(ui),
                None if expires_at is None else _utc("expiresAt", expires_at),
            )
            encoded = item.encoded
            if b"\\u0000" in encoded and _NUL.search(encoded):
                raise NotJson("U+0000 in a string")
            return item
        except (NotJson, orjson.JSONEncodeError) as wrong:
            # The thorough look says where it is wrong, or makes plain what is only odd (keys of an enum).
            texts = {name: slot.wire() for name, slot in (slots or {}).items()}
            freeze({"id": id, "sourceId": source_id, "type": type, "data": data, "slots": texts, "ui": ui})
            if isinstance(wrong, NotJson) or isinstance(data, FrozenDict):
                raise NotJson(str(wrong)) from wrong
        return cls.make(
            id=id,
            source_id=source_id,
            type=type,
            timestamp=timestamp,
            data=freeze(data),
            signals=signals,
            slots=slots,
            ui=freeze(ui),
            expires_at=expires_at,
        )

    @classmethod
    def from_wire(cls, obj: JsonObject) -> FeedItem:
        """Reads the wire object. Raises ValueError that names the path of what is missing or mistyped."""
        return cls.make(
            id=reading.text(obj, "id"),
            source_id=reading.text(obj, "sourceId"),
            type=reading.text(obj, "type"),
            timestamp=reading.moment(obj, "timestamp"),
            data=reading.object_or_none(obj, "data") or {},
            signals=_read_signals(reading.object_or_none(obj, "signals")),
            slots=_read_slots(reading.object_or_none(obj, "slots")),
            ui=obj.get("ui"),
            expires_at=reading.moment_or_none(obj, "expiresAt"),
        )

    def with_(
        self,
        *,
        timestamp: datetime | _Keep = _Keep.KEEP,
        data: Mapping[str, object] | _Keep = _Keep.KEEP,
        signals: Signals | _Keep | None = _Keep.KEEP,
        slots: Mapping[str, Slot] | _Keep | None = _Keep.KEEP,
        ui: object = _Keep.KEEP,
        expires_at: datetime | _Keep | None = _Keep.KEEP,
    ) -> FeedItem:
        """A new item that differs in what is named; raises ValueError as `make` does."""
        return FeedItem.make(
            id=self.id,
            source_id=self.source_id,
            type=self.type,
            timestamp=self.timestamp if isinstance(timestamp, _Keep) else timestamp,
            data=self.data if isinstance(data, _Keep) else data,
            signals=self.signals if isinstance(signals, _Keep) else signals,
            slots=self.slots if isinstance(slots, _Keep) else slots,
            ui=self.ui if isinstance(ui, _Keep) else ui,
            expires_at=self.expires_at if isinstance(expires_at, _Keep) else expires_at,
        )

    @property
    def encoded(self) -> bytes:
        """The item's wire JSON with keys sorted at every depth: made at the first use, kept from then on."""
        encoded = self._encoded
        if encoded is None:
            # Copied: orjson hands out the buffer that it wrote into, which is 4 KiB at the least.
            encoded = b"%b" % orjson.dumps(self._wire(), option=orjson.OPT_SORT_KEYS)
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    @property
    def digest(self) -> bytes:
        """16 bytes that name the encoded item: made at the first use, kept from then on."""
        digest = self._digest
        if digest is None:
            digest = blake2b(self.encoded, digest_size=16).digest()
            object.__setattr__(self, "_digest", digest)
        return digest

    def is_expired(self, now: datetime) -> bool:
        """Whether the item is to be hidden at `now`."""
        return self.expires_at is not None and self.expires_at <= now

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.encoded == other.encoded if isinstance(other, FeedItem) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.encoded)

    def _wire(self) -> dict[str, object]:
        obj: dict[str, object] = {
            "data": self.data,
            "id": self.id,
            "sourceId": self.source_id,
            "timestamp": times.to_wire(self.timestamp),
            "type": self.type,
        }
        if self.signals is not None:
            obj["signals"] = self.signals.wire()
        if self.slots is not None:
            obj["slots"] = {name: slot.wire() for name, slot in self.slots.items()}
        if self.ui is not None:
            obj["ui"] = self.ui
        if self.expires_at is not None:
            obj["expiresAt"] = times.to_wire(self.expires_at)
        return obj


def _shape(data: Mapping[str, object]) -> FrozenDict:
    frozen = freeze_shape(data)
    if isinstance(frozen, FrozenDict):
        return frozen
    raise NotJson("not an object", ("data",))


def _utc(key: str, when: datetime) -> datetime:
    if when.tzinfo is UTC:
        return when
    try:
        return times.utc(when)
    except ValueError as wrong:
        raise NotJson(str(wrong), (key,)) from None


def _read_signals(obj: JsonObject | None) -> Signals | None:
    try:
        return None if obj is None else Signals.from_wire(obj)
    except NotJson as wrong:
        raise wrong.below("signals") from None


def _read_slots(obj: JsonObject | None) -> Mapping[str, Slot] | None:
    if obj is None:
        return None
    slots: dict[str, Slot] = {}
    for name, value in obj.items():
        try:
            slots[name] = Slot.from_wire(reading.as_object(value))
        except NotJson as wrong:
            raise wrong.below(name).below("slots") from None
    return slots
