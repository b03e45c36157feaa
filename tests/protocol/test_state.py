from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.encoding import snapshot_result
from protocol.feed import (
    ContextEntry,
    FeedItem,
    FeedState,
    Group,
    SourceError,
    context_key_bytes,
    sorted_context,
)
from protocol.frozen import JsonValue, NotJson
from tests.protocol.strategies import START, contents, items, make_item, moments, states

LISTS = st.lists(items(), unique_by=lambda item: item.id, min_size=2, max_size=6)


def anew(state: FeedState) -> FeedState:
    """The same state in objects of its own, as another process would have it."""
    wire = orjson.loads(snapshot_result("alice", "c", START, state, context=True))
    return FeedState.from_wire(wire)


@given(states)
def test_a_state_comes_back_from_the_wire_as_it_went(state: FeedState) -> None:
    assert anew(state) == state


@given(states)
def test_equal_content_has_equal_digests_in_every_process(state: FeedState) -> None:
    assert anew(state).digest == state.digest
    assert len(state.digest) == 12


@given(LISTS, st.randoms(use_true_random=False))
def test_another_order_of_items_is_another_digest(listed: list[FeedItem], random: object) -> None:
    other = [*listed[1:], listed[0]]
    assert FeedState(tuple(other)).digest != FeedState(tuple(listed)).digest


@given(states, states)
def test_two_digests_are_equal_exactly_when_the_contents_are(one: FeedState, other: FeedState) -> None:
    def content(state: FeedState) -> tuple[object, ...]:
        return (
            state.items,
            state.groups,
            tuple((error.source_id, error.code, error.message) for error in state.errors),
            tuple(entry for entry in state.context if entry.key != ("time",)),
        )

    assert (one.digest == other.digest) == (content(one) == content(other))


@given(states, moments)
def test_times_of_errors_pending_sources_and_the_runs_time_are_no_content(
    state: FeedState, when: object
) -> None:
    later = tuple(replace(error, since=START, retry_at=START) for error in state.errors)
    context = sorted_context(
        [*(entry for entry in state.context if entry.key != ("time",)), ContextEntry.make(("time",), "now")]
    )
    other = FeedState(state.items, state.groups, later, ("z",), context)
    assert other.digest == state.digest


@given(states, contents)
def test_every_change_of_content_is_another_digest(state: FeedState, item: FeedItem) -> None:
    assume(item not in state.items)
    for changed in (
        replace(state, items=(*state.items, item)),
        replace(state, groups=(*state.groups, Group(("s/a",), "new"))),
        replace(state, errors=(*state.errors, SourceError("q", "internal", "new", START))),
        replace(state, context=sorted_context([*state.context, ContextEntry.make(("time", "zone"), "UTC")])),
    ):
        assert changed.digest != state.digest


def test_a_digest_is_made_once_and_carried_by_no_copy() -> None:
    state = FeedState((make_item("a"),))
    assert state.digest is state.digest
    assert replace(state, items=()).digest == FeedState.EMPTY.digest


def test_what_has_expired_is_hidden_with_its_place_in_groups() -> None:
    soon, later, never = (
        make_item("a", expires_at=START),
        make_item("b", expires_at=START + timedelta(hours=1)),
        make_item("c"),
    )
    groups = (Group(("s/a",), "one"), Group(("s/a", "s/c"), "two"))
    state = FeedState((soon, later, never), groups)
    shown = state.without_expired(START)
    assert shown.items == (later, never)
    assert shown.groups == (Group(("s/c",), "two"),)
    assert state.without_expired(START - timedelta(seconds=1)) is state
    assert state.next_expiry(START - timedelta(seconds=1)) == START
    assert state.next_expiry(START) == START + timedelta(hours=1)
    assert state.next_expiry(START + timedelta(hours=1)) is None


def test_two_items_of_one_id_are_no_state() -> None:
    wire: dict[str, JsonValue] = {"items": [orjson.loads(make_item("a", v).encoded) for v in (0, 1)]}
    with pytest.raises(NotJson, match="two items of one id"):
        FeedState.from_wire(wire)


BAD_STATES: list[tuple[dict[str, JsonValue], str]] = [
    ({"items": {}}, "items: not a list"),
    ({"items": [1]}, "items[0]: not an object"),
    ({"items": [{}]}, "items[0].id: missing"),
    ({"groups": [{"itemIds": [1], "summary": ""}]}, "groups[0].itemIds[0]: not a string"),
    ({"errors": [{"sourceId": "s", "code": "x", "message": ""}]}, "errors[0].since: missing"),
    ({"pending": [None]}, "pending[0]: not a string"),
    ({"context": [{"key": []}]}, "context[0].key: an empty key"),
]


@pytest.mark.parametrize(("wire", "told"), BAD_STATES)
def test_a_wire_object_that_is_no_state_is_refused_with_its_path(
    wire: dict[str, JsonValue], told: str
) -> None:
    with pytest.raises(NotJson) as refused:
        FeedState.from_wire(wire)
    assert str(refused.value).startswith(told)


def test_an_error_code_nobody_knows_is_read_as_internal() -> None:
    wire = {**SourceError("s", "config", "m", START).wire(), "code": "new"}
    assert SourceError.from_wire(wire).code == "internal"


def test_a_context_key_is_one_whatever_the_order_of_a_records_keys() -> None:
    assert context_key_bytes(("a", {"x": 1, "b": None})) == context_key_bytes(("a", {"b": None, "x": 1}))


def test_context_keys_tell_numbers_from_strings_and_not_one_from_one_point_nought() -> None:
    assert context_key_bytes((1,)) != context_key_bytes(("1",))
    assert context_key_bytes((1,)) == context_key_bytes((1.0,))
    assert context_key_bytes(({"n": 1},)) == context_key_bytes(({"n": 1.0},))
    assert context_key_bytes((0.5,)) == b"[0.5]"


@pytest.mark.parametrize(
    "key", [(), (None,), (True,), (["a"],), ({"a": {}},), ({"a": []},), (float("nan"),), ("\0",), (2**64,)]
)
def test_what_is_no_context_key_is_refused(key: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="key"):
        ContextEntry.make(key, 1)  # pyright: ignore[reportArgumentType] -- that is the point


def test_a_context_entry_cannot_be_changed_through_what_it_was_made_of() -> None:
    record: dict[str, object] = {"a": 1}
    value: list[object] = [1]
    entry = ContextEntry.make(("s", record), value)  # pyright: ignore[reportArgumentType] -- a flat record
    record["b"] = 2
    value.append(2)
    assert entry.encoded == b'{"key":["s",{"a":1}],"value":[1]}'
    assert entry == ContextEntry.make(("s", {"a": 1}), [1])
    assert hash(entry) == hash(ContextEntry.make(("s", {"a": 1}), [1]))
