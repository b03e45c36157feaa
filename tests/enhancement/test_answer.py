from __future__ import annotations

import unicodedata
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import FeedItem, Slot
from protocol.frozen import JsonValue
from server.enhancement.answer import (
    MOST_SYNTHETIC,
    NoAnswer,
    PassAnswer,
    answer_model,
    clean,
    read_answer,
    schema_of,
)
from server.enhancement.request import PassRequest, request_for
from tests.enhancement.items import answer_text, event, plain


def asked(*items: FeedItem) -> PassRequest:
    request = request_for(items or (event(), plain()))
    assert request is not None
    return request


def read(text: str, *items: FeedItem) -> PassAnswer:
    request = asked(*items)
    return read_answer(text, request, answer_model(request))


def test_a_good_answer_fills_the_slots_that_were_asked_for() -> None:
    answer = read(answer_text({"test.calendar/standup": {"insight": "Bring the demo"}}))
    assert answer.fills == {"test.calendar/standup": {"insight": "Bring the demo"}}


def test_null_fills_nothing() -> None:
    assert read(answer_text({"test.calendar/standup": {"insight": None}})).fills == {}


@pytest.mark.parametrize(
    "fills",
    [
        {"test.calendar/other": {"insight": "x"}},
        {"test.notes/note": {"insight": "x"}},
        {"test.calendar/standup": {"title": "x"}},
        {"test.calendar/standup": {"__class__": "x"}},
        {"test.calendar/standup": "x"},
        {"test.calendar/standup": {"insight": 7}},
        {"test.calendar/standup": {"insight": ["x"]}},
    ],
    ids=str,
)
def test_what_was_not_asked_for_or_is_no_text_is_ignored(fills: dict[str, object]) -> None:
    assert read(answer_text(fills)).fills == {}


def test_one_bad_fill_costs_only_itself() -> None:
    fills = {"test.calendar/a": {"insight": 7}, "test.calendar/b": {"insight": "good"}, "nowhere": {"x": "y"}}
    assert read(answer_text(fills), event("a"), event("b")).fills == {"test.calendar/b": {"insight": "good"}}


def test_a_slot_that_is_filled_already_is_not_asked_for_again() -> None:
    slots = {"insight": Slot("a", "mine"), "preparation": Slot("b", None)}
    fills = {"test.calendar/standup": {"insight": "theirs", "preparation": "shoes"}}
    assert read(answer_text(fills), event(slots=slots)).fills == {
        "test.calendar/standup": {"preparation": "shoes"}
    }


@pytest.mark.parametrize("wrap", ["{}", "```json\n{}\n```", "Sure! Here {{you}} go:\n{}\nAnything else?"])
def test_the_object_is_found_amid_prose(wrap: str) -> None:
    text = wrap.replace("{{you}}", "{you}").replace(
        "{}", answer_text({"test.calendar/standup": {"insight": "x"}})
    )
    assert read(text).fills == {"test.calendar/standup": {"insight": "x"}}


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "null", '{"a": 1}', '{"slotFills": ', "{" * 50_000, '{"slotFills"' * 99]
)
def test_what_holds_no_answer_is_no_answer(text: str) -> None:
    with pytest.raises(NoAnswer):
        read(text)


@given(st.text(max_size=400))
def test_any_text_is_an_answer_or_none(text: str) -> None:
    with suppress(NoAnswer):
        assert read(text).fills == {}


def test_made_up_items_are_few_of_known_types_and_have_names_of_ours() -> None:
    made_up = [
        {"id": "../../Day Ahead!", "type": "briefing", "text": "A long day"},
        {"id": "x", "type": "weather-alert", "text": "Run"},
        {"id": "y", "type": "nudge"},
        {"id": "!!!", "type": "nudge", "text": "no name is left of this"},
        "nonsense",
        *({"id": f"n{number}", "type": "nudge", "text": "t"} for number in range(9)),
    ]
    synthetic = read(answer_text({}, made_up)).synthetic
    assert [one.id for one in synthetic] == ["day-ahead", "n0", "n1"]
    assert len(synthetic) == MOST_SYNTHETIC


@given(st.text(max_size=2_000), st.integers(1, 300))
def test_cleaned_text_is_one_printable_line_within_its_length(text: str, most: int) -> None:
    cleaned = clean(text, most)
    if cleaned is not None:
        assert 0 < len(cleaned) <= most
        assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in cleaned)
        assert cleaned == " ".join(cleaned.split())


def test_text_that_turns_the_reading_order_round_is_straightened() -> None:
    assert clean("pay \u202egnp.exe\u202c \x1b[31mnow\x00", 100) == "pay gnp.exe [31mnow"


def test_long_text_is_cut_at_a_word() -> None:
    assert clean("one two three four", 12) == "one two…"


def objects(node: JsonValue) -> list[dict[str, JsonValue]]:
    """Every part of a schema that describes an object."""
    if isinstance(node, dict):
        below = [found for value in node.values() for found in objects(value)]
        return [node, *below] if node.get("type") == "object" else below
    if isinstance(node, list):
        return [found for value in node for found in objects(value)]
    return []


def test_the_schema_is_strict_and_names_just_what_was_asked() -> None:
    schema = schema_of(answer_model(asked()))
    found = objects(schema)
    assert len(found) == 4
    for one in found:
        properties = one["properties"]
        assert isinstance(properties, dict)
        assert one["additionalProperties"] is False
        assert one["required"] == list(properties)
    text = orjson.dumps(schema).decode()
    assert '"default"' not in text
    assert "test.calendar/standup" in text
    assert "test.notes/note" not in text
