"""Keys that are one, prefixes that match, views that stay."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import ContextEntry, ContextKey, context_key_bytes
from server.engine import Context
from server.engine.context import ContextStore

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

scalars = st.one_of(st.text('ab{}",:[]', max_size=3), st.integers(-3, 3), st.floats(-3, 3, allow_nan=False))
records = st.dictionaries(st.text("ab", max_size=2), st.one_of(scalars, st.booleans(), st.none()), max_size=2)
keys = st.lists(st.one_of(scalars, records), min_size=1, max_size=3).map(tuple)


def entry(*key: object, value: object = 1) -> ContextEntry:
    return ContextEntry.make(key, value)  # pyright: ignore[reportArgumentType] -- keys of every kind


def view(*entries: ContextEntry) -> Context:
    return Context.of(entries, NOW)


def test_records_are_one_key_whatever_the_order_of_their_members() -> None:
    ctx = view(entry("a", {"x": 1, "y": 2}))
    assert ctx.get(("a", {"y": 2, "x": 1})) == 1
    assert len(ctx.find(("a", {"y": 2, "x": 1}))) == 1


def test_a_number_and_its_digits_are_two_keys() -> None:
    ctx = view(entry("a", 1, value="number"), entry("a", "1", value="text"))
    assert (ctx.get(("a", 1)), ctx.get(("a", "1"))) == ("number", "text")
    assert [found.value for found in ctx.find(("a", 1))] == ["number"]


@pytest.mark.parametrize("part", [math.nan, math.inf, -math.inf, {"x": math.nan}, True, None, {"x": [1]}])
def test_what_is_no_part_of_a_key_is_refused(part: object) -> None:
    with pytest.raises(ValueError):
        entry("a", part)
    with pytest.raises(ValueError):
        view().get(("a", part))  # pyright: ignore[reportArgumentType] -- that is the point
    with pytest.raises(ValueError):
        view().find(("a", part))  # pyright: ignore[reportArgumentType] -- that is the point


def test_an_empty_key_is_refused_and_an_empty_prefix_finds_everything() -> None:
    with pytest.raises(ValueError):
        entry()
    with pytest.raises(ValueError):
        view().get(())
    assert [found.key for found in view(entry("a"), entry("b")).find(())] == [("a",), ("b",)]


def test_next_is_no_prefix_of_next_event() -> None:
    ctx = view(entry("cal", "nextEvent"), entry("cal", "next"), entry("cal", "next", 1), entry("calendar"))
    assert [found.key for found in ctx.find(("cal", "next"))] == [("cal", "next"), ("cal", "next", 1)]


def test_a_prefix_matches_whole_numbers_and_records() -> None:
    ctx = view(entry("a", 1, "x"), entry("a", 12), entry("a", {"k": 1}, "y"), entry("a", {"k": 1, "l": 2}))
    assert [found.key for found in ctx.find(("a", 1))] == [("a", 1, "x")]
    assert [found.key[-1] for found in ctx.find(("a", {"k": 1}))] == ["y"]


def test_find_goes_in_insertion_order_and_includes_the_exact_key() -> None:
    ctx = view(entry("a", "z"), entry("a"), entry("a", "b"))
    assert [found.key for found in ctx.find(("a",))] == [("a", "z"), ("a",), ("a", "b")]


def test_get_is_exact() -> None:
    ctx = view(entry("a", "b", value=1), entry("a", value=None))
    assert ctx.get(("a", "b")) == 1
    assert ctx.get(("a",)) is None
    assert ctx.get(("b",)) is None


def test_set_merges_and_the_last_write_wins_in_its_old_place() -> None:
    store = ContextStore()
    assert store.set([entry("a", value=1), entry("b", value=2)])
    assert store.set([entry("a", value=3)])
    assert [(e.key, e.value) for e in store.view(NOW).entries] == [(("a",), 3), (("b",), 2)]


def test_setting_what_is_there_changes_nothing() -> None:
    store = ContextStore()
    store.set([entry("a", value={"x": 1})])
    version, before = store.version, store.sorted()
    assert not store.set([entry("a", value={"x": 1})])
    assert store.version == version
    assert store.sorted() is before


def test_unset_removes_and_says_whether_anything_was_there() -> None:
    store = ContextStore()
    store.set([entry("a"), entry("b")])
    assert store.unset([("a",), ("a",), ("c",)])
    assert not store.unset([("a",)])
    assert [e.key for e in store.view(NOW).entries] == [("b",)]


def test_a_view_stays_as_it_was_whatever_happens_to_the_store() -> None:
    store = ContextStore()
    store.set([entry("a", value=1)])
    first = store.view(NOW)
    store.set([entry("b", value=2), entry("a", value=9)])
    second = store.view(NOW)
    store.unset([("a",), ("b",)])
    assert [e.value for e in first.entries] == [1]
    assert [e.value for e in second.entries] == [9, 2]
    assert store.view(NOW).entries == ()


def test_the_value_of_an_entry_cannot_be_changed() -> None:
    ctx = view(entry("a", value={"x": [1]}))
    value = cast("dict[str, list[int]]", ctx.get(("a",)))
    with pytest.raises(TypeError):
        value["x"] = [2]
    with pytest.raises(TypeError):
        value["x"].append(2)


def test_a_report_replaces_the_last_of_its_source_and_nobody_elses() -> None:
    store = ContextStore()
    old = [entry("a", "x", value=1), entry("a", "y", value=2)]
    store.set([*old, entry("b", value=3)])
    assert store.replace(old, [entry("a", "y", value=2), entry("a", "z", value=4)])
    assert {e.key: e.value for e in store.view(NOW).entries} == {
        ("b",): 3,
        ("a", "y"): 2,
        ("a", "z"): 4,
    }


@given(st.lists(st.tuples(keys, st.integers(0, 3)), max_size=8), st.lists(keys, max_size=3), keys)
def test_get_and_find_agree_with_a_naive_reading(
    written: list[tuple[ContextKey, int]], unset: list[ContextKey], asked: ContextKey
) -> None:
    store = ContextStore()
    naive: dict[bytes, tuple[ContextKey, int]] = {}
    for key, value in written:
        store.set([entry(*key, value=value)])
        name = context_key_bytes(key)
        naive[name] = (key, value)
    store.unset(unset)
    for key in unset:
        naive.pop(context_key_bytes(key), None)
    ctx = store.view(NOW)
    exact = naive.get(context_key_bytes(asked))
    assert ctx.get(asked) == (None if exact is None else exact[1])
    expected = [
        value
        for key, value in naive.values()
        if context_key_bytes(key[: len(asked)]) == context_key_bytes(asked)
    ]
    assert [found.value for found in ctx.find(asked)] == expected
    assert any(context_key_bytes(found.key) == context_key_bytes(asked) for found in ctx.find(asked)) is (
        exact is not None
    )
    assert store.encoded_size == sum(len(e.encoded) for e in ctx.entries)
    assert store.sorted() == tuple(sorted(ctx.entries, key=lambda e: e.key_bytes))
