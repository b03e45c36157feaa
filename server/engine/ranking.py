"""From what processors want to one ordered list. Pure: nothing here calls a processor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite

from protocol.feed import FeedItem, Group
from server.engine.processors import Processed

__all__ = ["Ranking", "checked_time", "kept_groups", "ordered"]


class Ranking:
    """The list while processors work on it, one after another."""

    __slots__ = ("_boosts", "_groups", "added_bytes", "items", "next_change_at")

    def __init__(self, items: tuple[FeedItem, ...]) -> None:
        self.items = items
        self.next_change_at: datetime | None = None
        self.added_bytes = 0
        self._boosts: dict[str, float] = {}
        self._groups: list[Group] = []

    def apply(self, wanted: Processed) -> None:
        """Does what one processor wants, whole or not at all.

        Raises ValueError or TypeError for what makes no sense; then nothing has changed.
        """
        if not (wanted.boost or wanted.suppress or wanted.additional_items or wanted.groups):
            self.next_change_at = _earlier(self.next_change_at, checked_time(wanted.next_change_at))
            return
        # Everything that can fail comes first.
        additions = _additions(self.items, wanted.additional_items)
        gone = frozenset(wanted.suppress)
        groups = [_checked_group(group) for group in wanted.groups]
        boosts = [(name, _checked_boost(boost)) for name, boost in wanted.boost.items()]
        changes_at = _earlier(self.next_change_at, checked_time(wanted.next_change_at))
        self.items += additions
        self.added_bytes += sum([len(item.encoded) for item in additions])
        if gone:
            self.items = tuple([item for item in self.items if item.id not in gone])
        self._groups += groups
        for name, boost in boosts:
            self._boosts[name] = self._boosts.get(name, 0.0) + boost
        self.next_change_at = changes_at

    def result(self) -> tuple[tuple[FeedItem, ...], tuple[Group, ...]]:
        """The items in their order, and the groups of what is left."""
        items = ordered(self.items, self._boosts) if self._boosts else self.items
        return items, kept_groups(self._groups, items) if self._groups else ()


def ordered(items: tuple[FeedItem, ...], boosts: Mapping[str, float]) -> tuple[FeedItem, ...]:
    """Boosted items first (the strongest at the top), then those left alone, then those pushed down (the
    furthest last). Boosts are clamped to -1..1; ties keep their order."""

    def rank(item: FeedItem) -> float:
        return -max(-1.0, min(1.0, boosts.get(item.id, 0.0)))

    return tuple(sorted(items, key=rank))


def kept_groups(groups: Iterable[Group], items: Collection[FeedItem]) -> tuple[Group, ...]:
    """The groups without ids that are not among `items`, and without groups that are then empty."""
    ids = {item.id for item in items}
    kept: list[Group] = []
    for group in groups:
        members = tuple(dict.fromkeys(member for member in group.item_ids if member in ids))
        if members:
            kept.append(group if members == group.item_ids else Group(members, group.summary))
    return tuple(kept)


def checked_time(time: datetime | None) -> datetime | None:
    """A foreign `next_change_at`. Raises ValueError for one without a zone, which compares with nothing."""
    if time is not None and time.tzinfo is None:
        raise ValueError("next_change_at has no time zone")
    return time


def _additions(items: Sequence[FeedItem], additions: Iterable[FeedItem]) -> tuple[FeedItem, ...]:
    added = tuple(additions)
    if not added:
        return ()
    taken = {item.id for item in items}
    for item in added:
        if not isinstance(item, FeedItem):  # pyright: ignore[reportUnnecessaryIsInstance] -- a plugin made it
            raise TypeError("an additional item is not a FeedItem")
        if item.id in taken:
            raise ValueError(f"an additional item has an id that is taken: {item.id}")
        taken.add(item.id)
    return added


def _checked_group(group: Group) -> Group:
    if not isinstance(group, Group):  # pyright: ignore[reportUnnecessaryIsInstance] -- a plugin made it
        raise TypeError("a group is not a Group")
    return group


def _checked_boost(boost: float) -> float:
    if not isfinite(boost):
        raise ValueError("a boost is not a finite number")
    return float(boost)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)
