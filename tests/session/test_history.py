from __future__ import annotations

from datetime import UTC, datetime, timedelta
from os import urandom

from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import Cursor, FeedItem, FeedState
from server.engine.state import Cause
from server.session.history import FeedHistory, Revision

EPOCH = b"epoch678"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def item(local: str, text: str = "") -> FeedItem:
    return FeedItem.make(
        id=f"test.a/{local}", source_id="test.a", type="text", timestamp=START, data={"text": text}
    )


def revision(number: int, *items: FeedItem, epoch: bytes = EPOCH) -> Revision:
    return Revision(
        feed="alice",
        epoch=epoch,
        number=number,
        seq=7,
        state=FeedState(items),
        at=START + timedelta(seconds=number),
        mono=float(number),
        cause=Cause(None, "push"),
    )


def grown(count: int, *, max_count: int = 64, max_bytes: int = 1 << 20) -> FeedHistory:
    history = FeedHistory(revision(1, item("x", "1")), max_count=max_count, max_bytes=max_bytes)
    for number in range(2, count + 1):
        history.append(revision(number, item("x", str(number))))
    return history


def cursor_of(revision: Revision) -> Cursor:
    cursor = Cursor.decode("alice", revision.cursor)
    assert cursor is not None
    return cursor


def test_the_ring_keeps_the_newest_revisions_up_to_its_count() -> None:
    history = grown(100, max_count=10)
    assert len(history) == 10
    assert history.current.number == 100
    assert history.since(90) is None
    kept = history.since(91)
    assert kept is not None
    assert kept.number == 91


def test_the_ring_is_bounded_by_bytes_and_never_loses_the_present() -> None:
    big = "x" * 10_000
    history = FeedHistory(revision(1, item("a", big)), max_bytes=25_000)
    for number in range(2, 50):
        history.append(revision(number, item("a", big + str(number))))
    assert history.current.number == 49
    assert history.weight <= 25_000
    assert len(history) == 3


def test_items_that_stay_cost_an_old_revision_nothing_but_its_list() -> None:
    kept = [item(str(index), "y" * 1000) for index in range(20)]
    history = FeedHistory(revision(1, *kept))
    history.append(revision(2, *kept[:19], item("19", "new")))
    assert history.weight < 3000
    history.append(revision(3, *kept[:19]))
    assert history.weight < 6000


def test_a_cursor_finds_its_revision_again_after_many_others() -> None:
    history = grown(5)
    second = history.since(2)
    assert second is not None
    for number in range(6, 40):
        history.append(revision(number, item("x", str(number))))
    assert history.find(cursor_of(second), EPOCH) is second


def test_a_cursor_of_another_session_finds_the_present_if_the_content_is_the_same() -> None:
    history = grown(3)
    elsewhere = revision(17, item("x", "3"), epoch=urandom(8))
    assert history.find(cursor_of(elsewhere), EPOCH) is history.current


def test_a_cursor_of_another_session_with_other_content_finds_nothing() -> None:
    history = grown(3)
    elsewhere = revision(2, item("x", "2"), epoch=urandom(8))
    assert history.find(cursor_of(elsewhere), EPOCH) is None


def test_a_cursor_that_left_the_ring_finds_nothing_unless_the_feed_is_back_at_it() -> None:
    history = grown(30, max_count=5)
    lost = cursor_of(revision(2, item("x", "2")))
    assert history.find(lost, EPOCH) is None
    history.append(revision(31, item("x", "2")))
    assert history.find(lost, EPOCH) is history.current


def test_the_oldest_change_is_that_of_the_next_revision() -> None:
    history = grown(10, max_count=5)
    assert history.oldest_at_after(8) == START + timedelta(seconds=9)
    assert history.oldest_at_after(10) == START + timedelta(seconds=10)
    assert history.oldest_at_after(1) == START + timedelta(seconds=6)


def test_what_was_replaced_long_ago_is_let_go() -> None:
    history = grown(10)
    history.trim(before_mono=7.0)
    assert history.since(5) is None
    assert history.since(6) is not None  # it was what the feed was until then
    history.trim(before_mono=1e9)
    assert len(history) == 1
    assert history.current.number == 10
    assert history.weight == 0


def test_frames_kept_for_a_revision_go_when_it_is_no_longer_the_present() -> None:
    history = grown(2)
    last = history.current
    last.frames = {"base": b"frame"}
    history.append(revision(3))
    assert last.frames is None


@given(
    st.lists(st.lists(st.integers(0, 6), max_size=6, unique=True), min_size=1, max_size=40), st.integers(1, 8)
)
def test_the_ring_is_always_the_tail_of_what_was_appended(states: list[list[int]], max_count: int) -> None:
    made = [item(str(index)) for index in range(7)]
    revisions = [
        revision(number, *[made[index] for index in state]) for number, state in enumerate(states, start=1)
    ]
    history = FeedHistory(revisions[0], max_count=max_count, max_bytes=5_000)
    for each in revisions[1:]:
        history.append(each)
    kept = [found for each in revisions if (found := history.since(each.number)) is not None]
    assert kept == revisions[-len(history) :]
    assert len(history) <= max_count
    assert history.weight <= 5_000
