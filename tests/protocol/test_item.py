from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import FeedItem, Signals, Slot
from protocol.frozen import JsonValue, NotJson
from protocol.messages.objects import ItemObject
from tests.protocol.strategies import START, contents, make_item


class Key(StrEnum):
    A = "a"


@given(contents)
def test_an_item_comes_back_from_the_wire_as_it_went(item: FeedItem) -> None:
    back = FeedItem.from_wire(orjson.loads(item.encoded))
    assert back == item
    assert back.encoded == item.encoded
    assert back.digest == item.digest
    assert hash(back) == hash(item)
    assert (back.data, back.signals, back.slots, back.ui) == (item.data, item.signals, item.slots, item.ui)
    assert (back.timestamp, back.expires_at) == (item.timestamp, item.expires_at)


@given(contents)
def test_an_items_bytes_are_what_the_contract_says(item: FeedItem) -> None:
    ItemObject.read(orjson.loads(item.encoded))


@given(contents, st.randoms(use_true_random=False))
def test_the_order_of_keys_makes_no_difference(item: FeedItem, random: Random) -> None:
    def shuffled(value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            pairs = [(key, shuffled(inner)) for key, inner in value.items()]
            random.shuffle(pairs)
            return dict(pairs)
        return [shuffled(inner) for inner in value] if isinstance(value, list) else value

    again = shuffled(orjson.loads(item.encoded))
    assert isinstance(again, dict)
    assert FeedItem.from_wire(again).digest == item.digest


def test_items_are_equal_when_their_bytes_are() -> None:
    assert make_item("a") == make_item("a")
    assert make_item("a") != make_item("a", 1)
    assert make_item("a") != "s/a"
    assert len({make_item("a"), make_item("a"), make_item("b")}) == 2


def test_an_item_is_encoded_once() -> None:
    item = make_item("a")
    assert item.encoded is item.encoded
    assert item.digest is item.digest
    assert len(item.digest) == 16


def test_nothing_in_an_item_can_be_changed() -> None:
    data: dict[str, object] = {"list": [1]}
    item = FeedItem.make(
        id="s/a", source_id="s", type="t", timestamp=START, data=data, slots={"x": Slot("what")}
    )
    data["more"] = 1
    with pytest.raises(FrozenInstanceError):
        item.type = "other"  # pyright: ignore[reportAttributeAccessIssue] -- that is the point
    with pytest.raises(TypeError):
        item.data["list"] = 1
    with pytest.raises(TypeError):
        item.slots["y"] = Slot("z")  # pyright: ignore[reportIndexIssue, reportOptionalSubscript] -- likewise
    assert orjson.loads(item.encoded)["data"] == {"list": [1]}


def test_what_says_nothing_is_not_on_the_wire() -> None:
    item = make_item("a", signals=Signals(), slots={}, ui=None)
    assert set(orjson.loads(item.encoded)) == {"id", "sourceId", "type", "timestamp", "data"}
    assert item == make_item("a")


def test_an_unfilled_slot_is_null_on_the_wire() -> None:
    item = make_item("a", slots={"x": Slot("what")})
    assert orjson.loads(item.encoded)["slots"] == {"x": {"description": "what", "content": None}}


def test_a_whole_urgency_is_the_same_as_a_float() -> None:
    assert make_item("a", signals=Signals(1)) == make_item("a", signals=Signals(1.0))


def test_times_of_any_zone_are_kept_in_utc() -> None:
    item = make_item("a", timestamp=datetime(2026, 3, 2, 11, 0, tzinfo=timezone(timedelta(hours=2))))
    assert item == make_item("a")
    assert item.timestamp.tzinfo is UTC


def test_with_changes_what_is_named_and_leaves_the_rest() -> None:
    item = make_item("a", signals=Signals(0.5), expires_at=START, ui={"x": 1})
    changed = item.with_(signals=None, data={"v": 9})
    assert (changed.signals, changed.data) == (None, {"v": 9})
    assert (changed.id, changed.expires_at, changed.ui) == (item.id, START, {"x": 1})
    assert item.with_(ui=None, expires_at=None).ui is None
    assert item.with_() == item


def test_an_item_expires_at_its_time_and_not_before() -> None:
    item = make_item("a", expires_at=START)
    assert item.is_expired(START)
    assert not item.is_expired(START - timedelta(milliseconds=1))
    assert not make_item("a").is_expired(datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "other/a"}, "id: not of the form s/LOCAL"),
        ({"id": "s/"}, "id: not of the form s/LOCAL"),
        ({"id": "s/\0"}, "id: U+0000"),
        ({"id": "s/\ud800"}, "id: a lone surrogate"),
        ({"type": "\0"}, "type: U+0000"),
        ({"timestamp": datetime(2026, 3, 2)}, "timestamp: a time without a zone"),  # noqa: DTZ001
        ({"expires_at": datetime(2026, 3, 2)}, "expiresAt: a time without a zone"),  # noqa: DTZ001
        ({"data": {"a": [{"b": "\0"}]}}, "data.a[0].b: U+0000"),
        ({"data": {"a": float("nan")}}, "data.a: not a finite number"),
        ({"data": {"a": 2**64}}, "data.a: an integer beyond 64 bits"),
        ({"data": {1: 1}}, "data: a key that is not a string"),
        ({"data": {"a": object()}}, "data.a: object is not JSON"),
        ({"ui": [float("inf")]}, "ui[0]: not a finite number"),
        ({"slots": {"x": Slot("\0")}}, "slots.x.description: U+0000"),
        ({"slots": {"x": Slot("", "\0")}}, "slots.x.content: U+0000"),
    ],
)
def test_what_cannot_be_on_the_wire_is_refused_with_its_path(changes: dict[str, object], told: str) -> None:
    members: dict[str, object] = {
        "id": "s/a", "source_id": "s", "type": "t", "timestamp": START, "data": {}, **changes
    }  # fmt: skip
    with pytest.raises(NotJson) as refused:
        FeedItem.make(**members)  # pyright: ignore[reportArgumentType] -- that is the point
    assert str(refused.value).startswith(told)


def test_the_text_of_an_escaped_nul_is_not_taken_for_one() -> None:
    item = FeedItem.make(
        id="s/a", source_id="s", type="t", timestamp=START, data={"a": "\\u0000", "b": "\\\\u0000"}
    )
    assert FeedItem.from_wire(orjson.loads(item.encoded)).data == {"a": "\\u0000", "b": "\\\\u0000"}


def test_keys_of_an_enum_are_plain_keys() -> None:
    item = FeedItem.make(id="s/a", source_id="s", type="t", timestamp=START, data={Key.A: Key.A})
    assert orjson.loads(item.encoded)["data"] == {"a": "a"}


@pytest.mark.parametrize("urgency", [-0.1, 1.1, float("nan")])
def test_an_urgency_out_of_bounds_is_refused(urgency: float) -> None:
    with pytest.raises(ValueError, match="urgency"):
        Signals(urgency)


def test_a_client_passes_over_members_and_words_it_does_not_know() -> None:
    wire = orjson.loads(make_item("a", signals=Signals(0.5, "imminent")).encoded)
    wire["signals"]["timeRelevance"] = "someday"
    wire["new"] = 1
    assert FeedItem.from_wire(wire) == make_item("a", signals=Signals(0.5))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": None}, "id: missing"),
        ({"id": 1}, "id: not a string"),
        ({"timestamp": "soon"}, "timestamp: not an RFC 3339 time"),
        ({"data": [1]}, "data: not an object"),
        ({"signals": {"urgency": "high"}}, "signals.urgency: not a number"),
        ({"signals": {"urgency": True}}, "signals.urgency: not a number"),
        ({"slots": {"x": 1}}, "slots.x: not an object"),
        ({"slots": {"x": {}}}, "slots.x.description: missing"),
        ({"expiresAt": 5}, "expiresAt: not a string"),
    ],
)
def test_a_wire_object_that_is_no_item_is_refused_with_its_path(
    changes: dict[str, JsonValue], told: str
) -> None:
    wire = {**orjson.loads(make_item("a").encoded), **changes}
    with pytest.raises(NotJson) as refused:
        FeedItem.from_wire(wire)
    assert str(refused.value).startswith(told)
