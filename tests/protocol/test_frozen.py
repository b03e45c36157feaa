from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from enum import IntEnum, StrEnum
from types import MappingProxyType

import orjson
import pytest
from hypothesis import given

from protocol.frozen import (
    MAX_DEPTH,
    FrozenDict,
    FrozenList,
    JsonValue,
    NotJson,
    freeze,
    freeze_shape,
    thaw,
)
from tests.protocol.strategies import json_values

DICT_CHANGES: list[Callable[[FrozenDict], object]] = [
    lambda d: d.__setitem__("a", 2),
    lambda d: d.__delitem__("a"),
    lambda d: d.clear(),
    lambda d: d.pop("a"),
    lambda d: d.popitem(),
    lambda d: d.setdefault("b", 1),
    lambda d: d.update({"b": 1}),
    lambda d: d.__ior__({"b": 1}),
]

LIST_CHANGES: list[Callable[[FrozenList], object]] = [
    lambda v: v.__setitem__(0, 2),
    lambda v: v.__delitem__(0),
    lambda v: v.__iadd__([1]),
    lambda v: v.__imul__(2),
    lambda v: v.append(1),
    lambda v: v.clear(),
    lambda v: v.extend([1]),
    lambda v: v.insert(0, 1),
    lambda v: v.pop(),
    lambda v: v.remove(1),
    lambda v: v.reverse(),
    lambda v: v.sort(key=str),
]


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize("change", DICT_CHANGES)
def test_a_frozen_dict_refuses_every_change(change: Callable[[FrozenDict], object]) -> None:
    frozen = freeze({"a": 1})
    with pytest.raises(TypeError):
        change(frozen)
    assert frozen == {"a": 1}


@pytest.mark.parametrize("change", LIST_CHANGES)
def test_a_frozen_list_refuses_every_change(change: Callable[[FrozenList], object]) -> None:
    frozen = freeze([1])
    with pytest.raises(TypeError):
        change(frozen)
    assert frozen == [1]


@given(json_values)
def test_freezing_changes_no_value_and_encodes_alike(value: JsonValue) -> None:
    for frozen in (freeze(value), freeze_shape(value)):
        assert frozen == value
        assert orjson.dumps(frozen, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
            value, option=orjson.OPT_SORT_KEYS
        )


@given(json_values)
def test_what_is_frozen_is_frozen_at_every_depth_and_thaws_into_plain_containers(value: JsonValue) -> None:
    def containers(one: JsonValue) -> list[type]:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else []
        return ([type(one)] if isinstance(one, dict | list) else []) + [
            kind for sub in inner for kind in containers(sub)
        ]

    assert set(containers(freeze(value))) <= {FrozenDict, FrozenList}
    assert set(containers(freeze_shape(value))) <= {FrozenDict, FrozenList}
    assert set(containers(thaw(freeze(value)))) <= {dict, list}
    assert thaw(freeze(value)) == value


def test_a_change_of_the_original_does_not_reach_the_frozen_copy() -> None:
    inner: list[object] = [1]
    original: dict[str, object] = {"a": inner}
    frozen, shaped = freeze(original), freeze_shape(original)
    inner.append(2)
    original["b"] = 1
    assert frozen == shaped == {"a": [1]}


def test_what_is_frozen_already_is_not_copied() -> None:
    frozen = freeze({"a": {"b": [1]}})
    assert freeze(frozen) is frozen
    assert freeze({"x": frozen})["x"] is frozen
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen
    assert copy.copy(frozen["a"]) is frozen["a"]


def test_a_frozen_value_survives_pickling() -> None:
    frozen = freeze({"a": [1, {"b": None}]})
    back = pickle.loads(pickle.dumps(frozen))
    assert back == frozen
    assert type(back) is FrozenDict
    assert type(back["a"]) is FrozenList


def test_enums_tuples_and_foreign_mappings_become_plain_json() -> None:
    odd = {Colour.RED: Colour.RED, "size": Size.BIG, "pair": (1, True), "map": MappingProxyType({"a": 1.5})}
    frozen = freeze(odd)
    assert orjson.dumps(frozen) == b'{"red":"red","size":3,"pair":[1,true],"map":{"a":1.5}}'
    assert [type(key) for key in frozen] == [str] * 4


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [0, float("nan")]}, "a[1]: not a finite number"),
        ({"a": float("-inf")}, "a: not a finite number"),
        ([2**64], "[0]: an integer beyond 64 bits"),
        ([-(2**63) - 1], "[0]: an integer beyond 64 bits"),
        ({"a": {1: 2}}, "a: a key that is not a string but int"),
        ({"a": {"b": "x\0"}}, "a.b: U+0000 in a string"),
        ({"a": {"\0": 1}}, "U+0000 in a string"),
        ({"a": "\ud800"}, "a: a lone surrogate in a string"),
        ({"a": {1, 2}}, "a: set is not JSON"),
        (object(), "object is not JSON"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_path(value: object, told: str) -> None:
    with pytest.raises(NotJson) as refused:
        freeze(value)
    assert str(refused.value).endswith(told)
    assert isinstance(refused.value, ValueError)


WRAPS: list[Callable[[object], object]] = [lambda v: [v], lambda v: {"a": v}, lambda v: (v,)]


@pytest.mark.parametrize("wrap", WRAPS)
def test_nesting_is_bounded(wrap: Callable[[object], object]) -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    freeze(value)
    freeze_shape(value)
    for function in (freeze, freeze_shape):
        with pytest.raises(NotJson, match="nested deeper"):
            function(wrap(value))


def test_a_value_that_contains_itself_is_refused_and_not_followed_forever() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(NotJson, match="nested deeper"):
        freeze(loop)
