"""The oracle itself: it must notice everything that it is there to notice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from protocol.feed import ContextEntry, Cursor, FeedItem, FeedState
from protocol.ids import UserId
from tests.faults.oracle import Oracle, Violation

ALICE, BOB = UserId("alice"), UserId("bob")


def _state(number: int | None = None, *, owner: UserId = ALICE, locale: int | None = None) -> FeedState:
    items = (
        ()
        if number is None
        else (
            FeedItem.make(
                id=f"freya.inbox/{owner}.a",
                source_id="freya.inbox",
                type="note",
                timestamp=datetime(2026, 1, 1, tzinfo=UTC),
                data={"user": owner, "number": number},
            ),
        )
    )
    context = (
        ()
        if locale is None
        else (ContextEntry.make(("freya.user", "settings"), {"locale": f"en-{locale:06d}"}),)
    )
    return FeedState(items=items, groups=(), errors=(), pending=(), context=context)


def _cursor(seq: int, user: UserId = ALICE) -> str:
    return Cursor(epoch=b"12345678", revision=1, seq=seq, digest=b"123456789012").encode(user)


def _oracle(issued: int = 9) -> Oracle:
    oracle = Oracle()
    for _ in range(issued):
        oracle.next_number(ALICE)
    return oracle


@pytest.mark.parametrize(
    ("complaint", "state", "cursor"),
    [
        ("back from 5 to 4", _state(4), _cursor(2)),
        ("back from write 2 to 1", _state(5), _cursor(1)),
        ("an item of bob", _state(6, owner=BOB), _cursor(2)),
        ("which nobody wrote", _state(10), _cursor(2)),
        ("another feed", _state(6), _cursor(2, BOB)),
    ],
)
def test_what_must_never_be_seen_is_noticed(complaint: str, state: FeedState, cursor: str) -> None:
    oracle = _oracle()
    oracle.saw("c", ALICE, _state(5), _cursor(2))
    with pytest.raises(Violation, match=complaint):
        oracle.saw("c", ALICE, state, cursor)


def test_what_is_newer_may_be_seen_and_what_another_client_saw_does_not_matter() -> None:
    oracle = _oracle()
    oracle.saw("c", ALICE, _state(5), _cursor(2))
    oracle.saw("c", ALICE, _state(6, locale=7), _cursor(3))
    oracle.saw("d", ALICE, _state(1), _cursor(1))
    assert oracle.frames == 3


def test_a_version_that_does_not_rise_is_noticed() -> None:
    oracle = _oracle()
    oracle.versioned(ALICE, "freya.user", 3)
    with pytest.raises(Violation, match="from version 3 to 3"):
        oracle.versioned(ALICE, "freya.user", 3)


def test_whatever_is_shown_otherwise_than_written_is_a_difference() -> None:
    oracle = _oracle()
    expected = oracle.user(ALICE)
    expected.inbox["a"], expected.settings, expected.versions["freya.user"] = 5, 7, 12
    right = {"freya.user": 12}
    assert oracle.differences(ALICE, _state(5, locale=7), right) == []
    assert oracle.differences(ALICE, None, right)
    assert oracle.differences(ALICE, _state(5), right)
    assert oracle.differences(ALICE, _state(4, locale=7), right)
    assert oracle.differences(ALICE, _state(5, locale=7), {"freya.user": 11})
    expected.dismissed["a"] = 5
    assert oracle.differences(ALICE, _state(5, locale=7), right) == ["a: 5 instead of None"]
    assert oracle.differences(ALICE, _state(locale=7), right) == []
