"""What is let in of a report, and that nothing which did not change is another object."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import FeedItem
from protocol.ids import SourceId
from server.engine import FeedLimits
from server.engine.report import NO_ITEMS, Fingerprint, Items, admit_items
from tests.engine.sources import Pushing
from tests.support.clock import START

SOURCE = SourceId("a.s")
LIMITS = FeedLimits(items=4, item_bytes=200)

# Local id, value, seconds to its expiry, whether of a foreign source.
drafts = st.tuples(
    st.sampled_from("12345"),
    st.one_of(st.integers(0, 2), st.just("x" * 200)),
    st.sampled_from([None, None, -1, 0, 10, 20]),
    st.sampled_from([False, False, False, True]),
)
Draft = tuple[str, int | str, int | None, bool]


def made(draft: Draft) -> FeedItem:
    local, value, expires_in_s, foreign = draft
    expires_at = None if expires_in_s is None else START + timedelta(seconds=expires_in_s)
    return Pushing("b.x" if foreign else SOURCE).one(local, value, expires_at=expires_at)


def naive(items: list[FeedItem]) -> tuple[list[bytes], bool]:
    """What is let in, and whether something was wrong."""
    kept: dict[str, bytes] = {}
    wrong = False
    for item in items:
        if item.is_expired(START):
            continue
        good = item.source_id == SOURCE and item.id not in kept and len(item.encoded) <= LIMITS.item_bytes
        if good and len(kept) < LIMITS.held_items:
            kept[item.id] = item.encoded
        else:
            wrong = True
    return list(kept.values()), wrong


@given(st.lists(st.lists(drafts, max_size=6), max_size=4))
def test_any_reports_are_let_in_as_a_naive_reading_says(reports: list[list[Draft]]) -> None:
    held: Items = NO_ITEMS
    for report in reports:
        items = [made(draft) for draft in report]
        before = held
        held, flaw = admit_items(SOURCE, before, items, LIMITS, START)
        expected, wrong = naive(items)
        assert [item.encoded for item in held.items] == expected
        assert (flaw is not None) is wrong
        assert held.size == sum(len(encoded) for encoded in expected)
        expiries = [item.expires_at for item in held.items if item.expires_at is not None]
        assert held.next_expiry == min(expiries, default=None)
        by_id = {item.id: item for item in before.items}
        for item in held.items:
            was = by_id.get(item.id)
            assert was is None or was.encoded != item.encoded or was is item
        if [i.encoded for i in before.items] == expected:
            assert held is before


@given(st.lists(drafts, max_size=6), st.integers(0, 30))
def test_what_expires_goes_and_nothing_else(report: list[Draft], after_s: int) -> None:
    held, _ = admit_items(SOURCE, NO_ITEMS, [made(draft) for draft in report], LIMITS, START)
    then = START + timedelta(seconds=after_s)
    left = held.unexpired(then)
    assert left.items == tuple(item for item in held.items if not item.is_expired(then))
    assert (left is held) is (len(left.items) == len(held.items))


def test_marks_tell_keys_apart_and_a_mark_is_its_own() -> None:
    assert Fingerprint.of((1, "a")) == Fingerprint.of((1, "a"))
    assert Fingerprint.of((1, "a")) != Fingerprint.of(("1", "a"))
    mark = Fingerprint.of((1, "a"))
    assert Fingerprint.of(mark) is mark
