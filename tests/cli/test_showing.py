"""What a feed looks like in a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from protocol.feed import FeedItem, FeedState, Signals, Slot, SourceError
from protocol.ids import SourceId
from server.cli.showing import Header, Mark, age, changes, clean, marks, picture, summary

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def item(local: str, title: str = "Hello", **more: object) -> FeedItem:
    return FeedItem.make(
        id=f"a.b/{local}",
        source_id=SourceId("a.b"),
        type="note",
        timestamp=NOW,
        data={"title": title, **more},
    )


def state(*items: FeedItem, errors: tuple[SourceError, ...] = ()) -> FeedState:
    return FeedState(items=items, errors=errors)


def error(message: str) -> SourceError:
    return SourceError(
        source_id=SourceId("a.b"), code="unreachable", message=message, since=NOW, retry_at=None
    )


def drawn(feed: FeedState | None, old: FeedState | None = None, status: str = "live") -> str:
    marked: Mapping[str, Mark] = {} if feed is None else marks(old, feed)
    out = io.StringIO()
    Console(file=out, width=120).print(picture(Header("alice", status), feed, marked, NOW, 2.0))
    return out.getvalue()


def test_a_first_state_is_all_new_and_nothing_in_it_is_marked() -> None:
    assert list(changes(None, state(item("1")))) == ["+ a.b/1  note  Hello"]
    assert marks(None, state(item("1"))) == {}


def test_each_change_is_one_line() -> None:
    old = state(item("1"), item("2"), item("3"))
    new = state(item("3"), item("2", "Other"), item("4"))
    assert list(changes(old, new)) == ["~ a.b/2  note  Other", "+ a.b/4  note  Hello", "- a.b/1"]
    assert marks(old, new) == {"a.b/2": "changed", "a.b/4": "new"}


def test_an_error_is_told_when_it_comes_changes_and_goes() -> None:
    first, second = state(errors=(error("away"),)), state(errors=(error("still away"),))
    assert list(changes(state(), first)) == ["! a.b: away"]
    assert list(changes(first, second)) == ["! a.b: still away"]
    assert list(changes(second, second)) == []
    assert list(changes(second, state())) == ["ok a.b"]


def test_an_item_says_what_its_words_are_or_else_its_values() -> None:
    assert summary(item("1", "Title", text="Text", number=7)) == "Title · Text"
    made = FeedItem.make(
        id="a.b/1",
        source_id=SourceId("a.b"),
        type="t",
        timestamp=NOW,
        data={"celsius": 7.5, "where": "here", "x": None},
    )
    assert summary(made) == "celsius: 7.5 · where: here"


def test_filled_slots_are_read_too() -> None:
    filled = FeedItem.make(
        id="a.b/1",
        source_id=SourceId("a.b"),
        type="t",
        timestamp=NOW,
        data={"title": "Rain"},
        slots={
            "insight": Slot(description="", content="Take an umbrella"),
            "other": Slot(description="", content=None),
        },
    )
    assert summary(filled) == "Rain · Take an umbrella"


def test_a_long_item_is_cut() -> None:
    assert len(summary(item("1", "x" * 500))) == 100


@given(st.text())
def test_nothing_in_an_item_can_write_to_the_terminal_by_itself(text: str) -> None:
    hostile = f"\x1b[2J{text}\r\n\u202e\x9b"
    for line in changes(None, state(item("1", hostile))):
        assert line.isprintable() or all(ord(char) >= 0x20 and char not in "\x7f\x9b\u202e" for char in line)
    assert "\x1b" not in clean(hostile)


def test_markup_in_an_item_is_only_text() -> None:
    assert "[bold red]x[/]" in drawn(state(item("1", "[bold red]x[/]")))


def test_the_picture_shows_state_items_marks_errors_and_what_is_awaited() -> None:
    old = state(item("1"))
    urgent = FeedItem.make(
        id="a.b/2",
        source_id=SourceId("a.b"),
        type="note",
        timestamp=NOW - timedelta(minutes=5),
        data={"title": "Now"},
        signals=Signals(urgency=0.9, time_relevance=None),
    )
    new = FeedState(items=(urgent, item("1", "Changed")), errors=(error("away"),), pending=("c.d",))
    text = drawn(new, old)
    for part in (
        "live",
        "alice",
        "2 items",
        "changed 2 s ago",
        "+",
        "~",
        "0.90",
        "5 min ago",
        "! a.b: away",
        "c.d",
    ):
        assert part in text


@pytest.mark.parametrize("status", ["connecting", "stale", "stopped"])
def test_the_picture_says_how_the_connection_stands_also_without_a_feed(status: str) -> None:
    assert status in drawn(None, status=status)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
