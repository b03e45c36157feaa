"""The order that boosts give, and processors' results applied whole or not at all."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import FeedItem, Group
from server.engine import FeedLimits, Processed
from server.engine.limits import fit, left_out_message, size_of_groups
from server.engine.ranking import Ranking, kept_groups, ordered
from tests.engine.sources import Pushing

ITEMS = tuple(Pushing("a.s").one(str(n)) for n in range(8))
IDS = [item.id for item in ITEMS]

boosts = st.dictionaries(st.sampled_from([*IDS, "a.s/none"]), st.floats(-3, 3), max_size=8)


def order(**by_number: float) -> list[int]:
    given_boosts = {f"a.s/{name[1:]}": boost for name, boost in by_number.items()}
    return [IDS.index(item.id) for item in ordered(ITEMS, given_boosts)]


def test_positive_first_then_untouched_then_negative_each_descending() -> None:
    assert order(_1=-0.1, _2=0.3, _4=-0.9, _6=0.9) == [6, 2, 0, 3, 5, 7, 1, 4]


def test_ties_keep_their_order() -> None:
    assert order(_5=0.5, _2=0.5, _7=-0.5, _1=-0.5) == [2, 5, 0, 3, 4, 6, 1, 7]


def test_boosts_are_clamped_only_at_the_end() -> None:
    assert order(_5=1.0, _6=2.7) == [5, 6, 0, 1, 2, 3, 4, 7], "both are 1 in the end"
    ranking = Ranking(ITEMS)
    ranking.apply(Processed(boost={IDS[5]: 1.0}))
    ranking.apply(Processed(boost={IDS[5]: 1.0, IDS[6]: 0.5}))
    ranking.apply(Processed(boost={IDS[5]: -1.6}))
    items, _ = ranking.result()
    assert items[:2] == (ITEMS[6], ITEMS[5]), "2.0 - 1.6 = 0.4: the sum was not clamped on its way"


def test_without_boosts_the_very_tuple_comes_out() -> None:
    items, groups = Ranking(ITEMS).result()
    assert items is ITEMS
    assert groups == ()


@given(boosts)
def test_any_boosts_give_a_stable_order_of_all_items(given_boosts: dict[str, float]) -> None:
    def clamped(item: FeedItem) -> float:
        return max(-1.0, min(1.0, given_boosts.get(item.id, 0.0)))

    items = ordered(ITEMS, given_boosts)
    assert sorted(item.id for item in items) == sorted(IDS)
    for before, after in pairwise(items):
        assert clamped(before) >= clamped(after)
        if clamped(before) == clamped(after):
            assert IDS.index(before.id) < IDS.index(after.id)


BROKEN = [
    Processed(additional_items=[ITEMS[0]]),
    Processed(additional_items=[cast("FeedItem", None)]),
    Processed(additional_items=cast("list[FeedItem]", 5)),
    Processed(suppress=cast("list[str]", 5)),
    Processed(suppress=cast("list[str]", [[]])),
    Processed(groups=[cast("Group", {})]),
    Processed(boost={IDS[0]: float("inf")}),
    Processed(boost=cast("dict[str, float]", [1])),
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_what_makes_no_sense_changes_nothing(broken: Processed) -> None:
    ranking = Ranking(ITEMS)
    ranking.apply(Processed(suppress=[IDS[1]], boost={IDS[7]: 1}))
    before = ranking.result()
    with pytest.raises((ValueError, TypeError, AttributeError)):
        ranking.apply(
            Processed(
                additional_items=broken.additional_items,
                suppress=broken.suppress or [IDS[2]],
                groups=broken.groups or [Group((IDS[3],), "g")],
                boost=broken.boost or {IDS[3]: 1.0},
            )
        )
    assert ranking.result() == before


def test_a_group_loses_twins_and_strangers() -> None:
    groups = [Group((IDS[0], IDS[0], "x/1", IDS[1]), "g"), Group(("x/1",), "none"), Group((), "empty")]
    assert kept_groups(groups, ITEMS) == (Group((IDS[0], IDS[1]), "g"),)


@given(st.integers(0, 10), st.integers(0, 1000))
def test_what_fits_is_the_longest_top_of_the_list(count: int, room: int) -> None:
    limits = FeedLimits(items=count)
    kept = fit(ITEMS, limits, room)
    sizes = [len(item.encoded) for item in ITEMS]
    assert kept <= count
    assert sum(sizes[:kept]) <= room
    assert kept in (count, len(ITEMS)) or sum(sizes[: kept + 1]) > room


@given(st.lists(st.tuples(st.lists(st.text(max_size=9), max_size=3), st.text(max_size=50)), max_size=3))
def test_groups_are_never_larger_on_the_wire_than_they_are_taken_for(
    groups: list[tuple[list[str], str]],
) -> None:
    import orjson

    made = [Group(tuple(ids), summary) for ids, summary in groups]
    wire = orjson.dumps([group.wire() for group in made])
    assert len(wire) <= size_of_groups(made) + 2


def test_one_is_not_many() -> None:
    assert left_out_message(1) == "1 item is left out: the feed is full"
    assert left_out_message(2) == "2 items are left out: the feed is full"
