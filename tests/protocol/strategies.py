"""What hypothesis draws feeds from: small pools of ids, so that states have much in common."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from protocol.feed import ContextEntry, FeedItem, FeedState, Group, Signals, Slot, SourceError, sorted_context
from protocol.frozen import JsonValue

__all__ = ["START", "contents", "items", "json_values", "make_item", "moments", "states", "texts"]

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

moments = st.integers(-86_400_000, 86_400_000).map(lambda ms: START + timedelta(milliseconds=ms))

_signals = st.builds(
    Signals,
    st.none() | st.floats(0, 1),
    st.sampled_from([None, "imminent", "upcoming", "ambient"]),
)
_slots = st.dictionaries(texts, st.builds(Slot, texts, st.none() | texts), max_size=2)


def make_item(local: str, version: int = 0, **changes: object) -> FeedItem:
    """A small item of the source `s`."""
    item = FeedItem.make(id=f"s/{local}", source_id="s", type="t", timestamp=START, data={"v": version})
    return item.with_(**changes) if changes else item  # pyright: ignore[reportArgumentType] -- named by the test


def items(ids: Sequence[str] = "abcdefgh") -> st.SearchStrategy[FeedItem]:
    """Small items of few ids and versions: many are equal."""
    return st.builds(make_item, st.sampled_from(ids), st.integers(0, 2))


def _content(
    local: str,
    kind: str,
    timestamp: datetime,
    data: dict[str, JsonValue],
    signals: Signals | None,
    slots: dict[str, Slot] | None,
    ui: JsonValue,
    expires_at: datetime | None,
) -> FeedItem:
    return FeedItem.make(
        id=f"s/{local}",
        source_id="s",
        type=kind,
        timestamp=timestamp,
        data=data,
        signals=signals,
        slots=slots,
        ui=ui,
        expires_at=expires_at,
    )


contents = st.builds(
    _content,
    texts.filter(bool),
    texts,
    moments,
    st.dictionaries(texts, json_values, max_size=3),
    st.none() | _signals,
    st.none() | _slots,
    json_values,
    st.none() | moments,
)

_groups = st.builds(Group, st.lists(st.sampled_from(["s/a", "s/b"]), max_size=2).map(tuple), texts)
_errors = st.builds(
    SourceError,
    st.sampled_from(["s", "r"]),
    st.sampled_from(["unreachable", "config"]),
    texts,
    moments,
    st.none() | moments,
)
_entries = st.builds(
    ContextEntry.make,
    st.sampled_from([("time",), ("s", "x"), ("s", 1), ("s", "1"), ("s", {"b": 1, "a": None})]),
    json_values,
)

states = st.builds(
    FeedState,
    st.lists(items(), unique_by=lambda item: item.id, max_size=8).map(tuple),
    st.lists(_groups, max_size=2).map(tuple),
    st.lists(_errors, max_size=2).map(tuple),
    st.lists(st.sampled_from(["s", "r"]), unique=True).map(tuple),
    st.lists(_entries, unique_by=lambda entry: entry.key_bytes, max_size=3).map(sorted_context),
)
