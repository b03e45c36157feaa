from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.delta import ContextChange, Delta, DeltaError, apply, diff
from protocol.encoding import delta_message
from protocol.feed import ContextEntry, FeedItem, FeedState, Group
from protocol.frozen import JsonObject, JsonValue, NotJson
from protocol.messages.feed import FeedDelta
from tests.protocol.strategies import START, make_item, states

SHUFFLED = st.permutations("abcdef").flatmap(lambda order: st.integers(0, 6).map(lambda n: order[:n]))


def listed(ids: str | list[str]) -> FeedState:
    return FeedState(tuple(make_item(one) for one in ids))


def over_the_wire(delta: Delta) -> Delta:
    message = orjson.loads(delta_message("alice", "b", "c", START, delta, context=True, cause=None))
    FeedDelta.read(message["params"])
    return Delta.from_wire(message["params"])


def in_the_protocols_words(state: FeedState, delta: Delta) -> list[FeedItem]:
    """The three steps of the protocol, word by word, one insertion at a time."""
    items = [item for item in state.items if item.id not in delta.remove]
    taken = {item.id: item for item in items}
    named = {item.id for _, item in delta.put} | {item_id for _, item_id in delta.move}
    items = [item for item in items if item.id not in named]
    inserts = [*delta.put, *((index, taken[item_id]) for index, item_id in delta.move)]
    for index, item in sorted(inserts, key=lambda entry: entry[0]):
        assert index <= len(items)
        items.insert(index, item)
    return items


@given(states, states)
def test_a_difference_applied_gives_the_new_state_exactly(old: FeedState, new: FeedState) -> None:
    delta = diff(old, new)
    assert apply(old, delta) == new
    assert apply(old, over_the_wire(delta)) == new
    assert in_the_protocols_words(old, delta) == list(new.items)


@given(states, states, states)
def test_one_conflated_delta_leads_where_the_single_ones_led(
    first: FeedState, second: FeedState, third: FeedState
) -> None:
    step_by_step = apply(apply(first, diff(first, second)), diff(second, third))
    assert apply(first, diff(first, third)) == step_by_step == third


@given(states, states)
def test_a_difference_is_empty_exactly_between_equal_states(old: FeedState, new: FeedState) -> None:
    assert diff(old, new).is_empty == (old == new)
    assert diff(old, old).is_empty
    assert diff(old, replace(old)).is_empty


@given(SHUFFLED, SHUFFLED, st.sets(st.sampled_from("abcdef"), max_size=2))
def test_no_delta_with_fewer_moves_does_the_same(old: list[str], new: list[str], changed: set[str]) -> None:
    now = FeedState(tuple(make_item(one, int(one in changed)) for one in new))
    unchanged = [one for one in new if one in old and one not in changed]

    def can_all_stay(some: tuple[str, ...]) -> bool:
        return list(some) == [one for one in old if one in some]

    most = max(n for n in range(len(unchanged) + 1) if any(map(can_all_stay, combinations(unchanged, n))))
    delta = diff(listed(old), now)
    assert len(delta.move) == len(unchanged) - most
    assert {item.id for _, item in delta.put} == {
        f"s/{one}" for one in new if one in changed or one not in old
    }
    assert set(delta.remove) == {f"s/{one}" for one in old if one not in new}


def test_one_changed_item_is_one_entry_whatever_the_length() -> None:
    old = FeedState(tuple(make_item(str(n)) for n in range(2_000)))
    new = replace(old, items=(*old.items[:700], make_item("700", 1), *old.items[701:]))
    delta = diff(old, new)
    assert delta == Delta(put=((700, make_item("700", 1)),))
    assert apply(old, delta) == new


def test_a_card_that_comes_first_moves_nothing_else() -> None:
    assert diff(listed("abcd"), listed("dabc")) == Delta(move=((0, "s/d"),))
    assert diff(listed("abcd"), listed("bcda")) == Delta(move=((3, "s/a"),))
    assert diff(listed("abcd"), listed("xabcd")) == Delta(put=((0, make_item("x")),))


def test_what_did_not_change_is_not_in_the_difference() -> None:
    entry = ContextEntry.make(("s",), 1)
    old = FeedState((make_item("a"),), (Group(("s/a",), "g"),), (), ("r",), (entry,))
    delta = diff(old, replace(old, pending=()))
    assert delta == Delta(pending=())
    assert not delta.is_content_empty
    assert diff(old, replace(old, context=())) == Delta(context=ContextChange((), (entry.key_bytes,)))
    assert diff(old, replace(old, context=())).is_content_empty


def test_a_difference_of_context_names_new_and_gone_keys_alone() -> None:
    kept, gone, new = (ContextEntry.make((key,), 1) for key in ("kept", "gone", "new"))
    changed = ContextEntry.make(("changed",), 2)
    old = FeedState(context=(ContextEntry.make(("changed",), 1), gone, kept))
    now = FeedState(context=(changed, kept, new))
    assert diff(old, now).context == ContextChange((changed, new), (gone.key_bytes,))


@pytest.mark.parametrize(
    "delta",
    [
        Delta(remove=("s/x",)),
        Delta(move=((0, "s/x"),)),
        Delta(remove=("s/a",), move=((0, "s/a"),)),
        Delta(remove=("s/a", "s/a")),
        Delta(put=((0, make_item("a")),), move=((1, "s/a"),)),
        Delta(put=((0, make_item("x")), (0, make_item("y")))),
        Delta(put=((4, make_item("x")),)),
        Delta(put=((-1, make_item("x")),)),
        Delta(move=((3, "s/a"),)),
        Delta(context=ContextChange((), (b'["s"]',))),
    ],
)
def test_a_delta_that_was_not_made_from_this_state_is_refused(delta: Delta) -> None:
    with pytest.raises(DeltaError):
        apply(listed("abc"), delta)


@given(states, states, states)
def test_a_delta_applied_to_another_state_gives_a_state_or_a_delta_error(
    old: FeedState, new: FeedState, other: FeedState
) -> None:
    try:
        result = apply(other, diff(old, new))
    except DeltaError:
        return
    assert len({item.id for item in result.items}) == len(result.items)


BAD_DELTAS: list[tuple[dict[str, JsonValue], str]] = [
    ({"put": [{"index": 0}]}, "put[0].item: not an object"),
    ({"put": [{"index": 0, "item": {}}]}, "put[0].id: missing"),
    ({"put": [{"index": "0", "item": {}}]}, "put[0].index: not an index"),
    ({"move": [{"index": True, "id": "s/a"}]}, "move[0].index: not an index"),
    ({"move": [{"index": 0}]}, "id: missing"),
    ({"remove": "s/a"}, "remove: not a list"),
    ({"context": {"unset": ["s"]}}, "unset[0]: not a list"),
    ({"context": []}, "context: not an object"),
]


@pytest.mark.parametrize(("wire", "told"), BAD_DELTAS)
def test_a_wire_object_that_is_no_delta_is_refused_with_its_path(
    wire: dict[str, JsonValue], told: str
) -> None:
    with pytest.raises(NotJson) as refused:
        Delta.from_wire(wire)
    assert str(refused.value).startswith(told)


def test_members_that_a_client_does_not_know_are_passed_over() -> None:
    wire: JsonObject = {"feed": "alice", "base": "b", "new": {"x": 1}, "put": [], "groups": []}
    assert Delta.from_wire(wire) == Delta(groups=())
