from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import ContextEntry, FeedItem, Signals, Slot
from server.engine.report import SavedSource
from server.session.saving import decode_saved, encode_saved

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def item(local: int, text: str, urgent: bool) -> FeedItem:
    return FeedItem.make(
        id=f"test.a/{local}",
        source_id="test.a",
        type="text",
        timestamp=AT,
        data={"text": text},
        signals=Signals(0.5) if urgent else None,
        slots={"note": Slot("what to say")} if urgent else None,
        expires_at=AT if urgent else None,
    )


def entry(part: int, value: int) -> ContextEntry:
    return ContextEntry.make(("test.a", part), value)


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
items = st.builds(item, st.integers(0, 9), words, st.booleans())
entries = st.builds(entry, st.integers(-9, 9), st.integers(0, 9))


@given(st.lists(items, max_size=4), st.lists(entries, max_size=3), st.none() | st.text("ab'\"(", max_size=9))
def test_what_is_read_back_is_what_was_saved(
    saved_items: list[FeedItem], context: list[ContextEntry], key: str | None
) -> None:
    saved = SavedSource(tuple(saved_items), tuple(context), AT, key)
    assert decode_saved(encode_saved(saved, 7), AT, 7) == saved
    assert decode_saved(encode_saved(saved, 7), AT, 8) is None


@pytest.mark.parametrize(
    "damaged",
    [b"", b"1{}", b"2", b"2{", b"2[]", b"2{}", b'2{"items":3}', b'2{"items":[{}],"context":[]}', b"2null"],
)
def test_what_cannot_be_read_is_as_if_it_had_never_been_saved(damaged: bytes) -> None:
    assert decode_saved(damaged, AT, 7) is None
