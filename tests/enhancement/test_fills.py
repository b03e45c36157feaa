from __future__ import annotations

from datetime import timedelta

import orjson

from protocol.feed import FeedItem, Slot
from protocol.frozen import JsonObject
from server.enhancement.answer import PassAnswer, Synthetic
from server.enhancement.fills import EMPTY, KeptAnswers, Layer, merge, read_kept
from server.enhancement.request import request_for
from tests.enhancement.items import INSIGHT, NOW, event, plain

SIX_HOURS_S = 6 * 3600.0


def kept_of(*items: FeedItem, old: KeptAnswers = EMPTY, synthetic: tuple[Synthetic, ...] = ()) -> KeptAnswers:
    request = request_for(items)
    assert request is not None
    fills = {one.item.id: {name: f"{one.item.id}:{name}" for name in one.slots} for one in request.open_items}
    return merge(old, request, PassAnswer(fills, synthetic), NOW, SIX_HOURS_S)


def layer_of(kept: KeptAnswers) -> Layer:
    layer = Layer()
    layer.replace(kept)
    return layer


def contents(items: tuple[FeedItem, ...]) -> list[str | None]:
    return [slot.content for item in items for slot in (item.slots or {}).values()]


def test_fills_are_laid_over_their_items() -> None:
    layer = layer_of(kept_of(event()))
    assert contents(layer.lay((plain(), event()), NOW)) == ["test.calendar/standup:insight"]


def test_a_fill_goes_when_the_data_or_the_description_changes() -> None:
    layer = layer_of(kept_of(event()))
    assert contents(layer.lay((event(title="Moved"),), NOW)) == [None]
    assert contents(layer.lay((event(slots={"insight": Slot("something else", None)}),), NOW)) == [None]
    assert contents(layer.lay((event(),), NOW)) == ["test.calendar/standup:insight"]


def test_a_fill_never_replaces_what_a_source_wrote() -> None:
    own = event(slots={"insight": Slot(INSIGHT, "by the source")})
    assert contents(layer_of(kept_of(event())).lay((own,), NOW)) == ["by the source"]


def test_nothing_to_lay_is_the_same_tuple_and_the_same_item_is_filled_once() -> None:
    items = (event(), plain())
    assert Layer().lay(items, NOW) is items
    layer = layer_of(kept_of(event("other")))
    assert layer.lay(items, NOW) is items
    layer = layer_of(kept_of(event()))
    assert layer.lay(items, NOW)[0] is layer.lay(items, NOW)[0]


def test_answers_survive_the_store() -> None:
    kept = kept_of(event(), synthetic=(Synthetic("day", "briefing", "A quiet day"),))
    fills, synthetic = orjson.loads(orjson.dumps([kept.fills_json(), kept.synthetic_json()]))
    assert read_kept(kept.input_hash, fills, synthetic) == kept


def test_what_another_version_stored_is_left_out() -> None:
    strange: JsonObject = {"a": 1, "b": {"of": "x"}, "c": {"of": "x", "slots": {"s": ["one"]}}}
    made_up: list[JsonObject] = [
        {"id": "y"},
        {"id": "x", "type": "alarm", "text": "t", "at": "", "expiresAt": ""},
        {"id": "x", "type": "nudge", "text": "t", "at": "now", "expiresAt": "later"},
    ]
    kept = read_kept(b"x", strange, made_up)
    assert (kept.fills, kept.synthetic) == ({}, ())


def test_old_fills_stay_beside_new_ones_and_their_number_is_bounded() -> None:
    kept = kept_of(event("first"))
    kept = kept_of(event("second"), old=kept)
    assert set(kept.fills) == {"test.calendar/first", "test.calendar/second"}
    for number in range(300):
        kept = kept_of(event(f"e{number}"), old=kept)
    assert len(kept.fills) == 200
    assert "test.calendar/e299" in kept.fills


def test_made_up_items_appear_briefings_first_and_end() -> None:
    made_up = (Synthetic("n", "nudge", "Drink"), Synthetic("b", "briefing", "Long day"))
    layer = layer_of(kept_of(event(), synthetic=made_up))
    shown = layer.lay((event(),), NOW)
    assert [item.id for item in shown] == [
        "freya.enhancement/b",
        "test.calendar/standup",
        "freya.enhancement/n",
    ]
    assert layer.next_expiry(NOW) == NOW + timedelta(hours=6)
    assert len(layer.lay((event(),), NOW + timedelta(hours=6))) == 1


def test_a_made_up_item_that_stays_stays_the_same_object() -> None:
    kept = kept_of(event(), synthetic=(Synthetic("n", "nudge", "Drink"),))
    layer = layer_of(kept)
    before = layer.lay((), NOW)[0]
    layer.replace(read_kept(kept.input_hash, kept.fills_json(), kept.synthetic_json()))
    assert layer.lay((), NOW)[0] is before
