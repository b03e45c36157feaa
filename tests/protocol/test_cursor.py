from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import MAX_CURSOR_LENGTH, Cursor
from tests.protocol.strategies import texts

CURSORS = st.builds(
    Cursor,
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=12, max_size=12),
)


@given(texts, CURSORS)
def test_a_cursor_comes_back_as_it_went_in_letters_that_a_url_takes(feed: str, cursor: Cursor) -> None:
    text = cursor.encode(feed)
    assert re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_CURSOR_LENGTH}}}", text)
    assert Cursor.decode(feed, text) == cursor


@given(CURSORS)
def test_a_cursor_is_of_its_feed_alone(cursor: Cursor) -> None:
    assert Cursor.decode("bob", cursor.encode("alice")) is None


@given(st.text())
def test_any_text_at_all_is_a_cursor_or_none(text: str) -> None:
    assert Cursor.decode("alice", text) is None


@given(CURSORS, st.integers(0, 54), st.characters())
def test_a_garbled_cursor_never_raises(cursor: Cursor, at: int, character: str) -> None:
    text = cursor.encode("alice")
    Cursor.decode("alice", text[:at] + character + text[at + 1 :])


@given(CURSORS, st.integers(0, 54))
def test_a_cut_cursor_is_none(cursor: Cursor, length: int) -> None:
    assert Cursor.decode("alice", cursor.encode("alice")[:length]) is None


def test_the_other_alphabet_of_base64_is_not_ours() -> None:
    cursor = Cursor(b"\xff" * 8, 2**64 - 1, 2**64 - 1, b"\xff" * 12)
    text = cursor.encode("alice")
    assert "_" in text
    assert Cursor.decode("alice", text.replace("_", "/")) is None
