"""A feed as a terminal shows it: a row for each item, what changed marked, or a line for each change.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, cast

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protocol.feed import FeedItem, FeedState

__all__ = ["Header", "Mark", "age", "changes", "clean", "marks", "picture", "summary"]

Mark: TypeAlias = Literal["new", "changed"]

# Where the words of an item most often are, best first.
_WORDS = ("title", "headline", "greeting", "text", "summary", "message", "name", "description")
_SUMMARY_CHARS = 100
# Control characters and what turns the direction of text: an item must not write to the terminal by itself.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_STYLES = {"live": "bold green", "connecting": "yellow", "stale": "bold yellow", "stopped": "bold red"}


@dataclass(frozen=True, slots=True)
class Header:
    """What stands above the items."""

    feed: str
    status: str
    note: str = ""


def clean(text: str) -> str:
    """The text, safe for a terminal, on one line."""
    return _UNSAFE.sub(" ", text).strip()


def summary(item: FeedItem) -> str:
    """What an item says, in a line."""
    data = cast("Mapping[str, object]", item.data)
    words = [data[name] for name in _WORDS if isinstance(data.get(name), str) and data[name]]
    if not words:
        words = [f"{name}: {_short(value)}" for name, value in data.items() if value is not None]
    fills = [slot.content for slot in (item.slots or {}).values() if slot.content]
    text = clean(" · ".join(str(word) for word in (*words[:4], *fills)))
    return text if len(text) <= _SUMMARY_CHARS else text[: _SUMMARY_CHARS - 1] + "…"


def marks(old: FeedState | None, new: FeedState) -> Mapping[str, Mark]:
    """What changed from one state to the next, by item id. Nothing is marked in the first."""
    if old is None:
        return {}
    before = {item.id: item for item in old.items}
    return {
        item.id: "changed" if item.id in before else "new"
        for item in new.items
        if before.get(item.id) != item
    }


def changes(old: FeedState | None, new: FeedState) -> Iterator[str]:
    """The same as lines: + new, ~ changed, - gone, ! what is wrong, ok what is right again."""
    marked = marks(old, new) if old is not None else {item.id: "new" for item in new.items}
    for item in new.items:
        if item.id in marked:
            sign = "+" if marked[item.id] == "new" else "~"
            yield f"{sign} {clean(item.id)}  {clean(item.type)}  {summary(item)}"
    there = {item.id for item in new.items}
    yield from (f"- {clean(item.id)}" for item in (old.items if old else ()) if item.id not in there)
    errors = {error.source_id: clean(error.message) for error in new.errors}
    before = {error.source_id: clean(error.message) for error in (old.errors if old else ())}
    yield from (f"! {source}: {text}" for source, text in errors.items() if before.get(source) != text)
    yield from (f"ok {source}" for source in before if source not in errors)


def picture(
    header: Header,
    state: FeedState | None,
    marked: Mapping[str, Mark],
    now: datetime,
    changed_s: float | None,
) -> RenderableType:
    """The whole screen. `changed_s`: seconds since the last change."""
    parts: list[RenderableType] = [_head(header, state, changed_s)]
    if state is not None:
        parts.append(_table(state.items, marked, now))
        parts += [Text(f"! {error.source_id}: {clean(error.message)}", style="red") for error in state.errors]
        if state.pending:
            parts.append(Text(f"… waiting for {', '.join(state.pending)}", style="dim"))
    return Group(*parts)


def age(seconds: float) -> str:
    """A duration in one unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _head(header: Header, state: FeedState | None, changed_s: float | None) -> Text:
    head = Text.assemble(
        (f"● {header.status}", _STYLES.get(header.status, "")), "  ", (clean(header.feed), "bold")
    )
    if state is not None:
        head.append(f"  {len(state.items)} items")
    if changed_s is not None:
        head.append(f"  changed {age(changed_s)} ago", style="dim")
    return head.append(f"  {clean(header.note)}", style="dim") if header.note else head


def _table(items: Sequence[FeedItem], marked: Mapping[str, Mark], now: datetime) -> Table:
    table = Table(expand=True, box=None, header_style="dim", pad_edge=False)
    table.add_column("", width=1)
    table.add_column("source", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("what", ratio=1)
    table.add_column("when", justify="right", no_wrap=True)
    table.add_column("urgency", justify="right", no_wrap=True)
    for item in items:
        mark = marked.get(item.id)
        style = {"new": "bold green", "changed": "bold yellow"}.get(mark or "", "")
        table.add_row(
            {"new": "+", "changed": "~"}.get(mark or "", ""),
            Text(clean(item.source_id)),
            Text(clean(item.type)),
            Text(summary(item)),
            Text(_when(item.timestamp, now)),
            Text(_urgency(item)),
            style=style,
        )
    return table


def _when(moment: datetime, now: datetime) -> str:
    seconds = (now - moment).total_seconds()
    return f"{age(seconds)} ago" if seconds >= 0 else f"in {age(-seconds)}"


def _urgency(item: FeedItem) -> str:
    if item.signals is None or item.signals.urgency is None:
        return ""
    return f"{item.signals.urgency:.2f}"


def _short(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
