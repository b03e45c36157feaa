"""`item.*`: what backend services publish, and what users dismiss."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.messages.base import FeedName, Id, Method, Nothing, Params, WireModel
from protocol.messages.objects import PublishItem

__all__ = [
    "METHODS",
    "ItemDismissParams",
    "ItemPublishParams",
    "ItemPublishResult",
    "ItemRetractParams",
    "ItemRetractResult",
    "Targets",
]


class Targets(Params):
    """One `feed`, or up to 500 `feeds`."""

    feed: FeedName | None = None
    feeds: Annotated[list[FeedName], Field(min_length=1, max_length=500)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.feed is None) == (self.feeds is None):
            raise ValueError("either `feed` or `feeds`")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The feeds, each once, in the order given."""
        named = [self.feed] if self.feed is not None else self.feeds or []
        return tuple(dict.fromkeys(named))


class ItemPublishParams(Targets):
    """Items for every one of the feeds; all or nothing for each feed."""

    items: Annotated[list[PublishItem], Field(min_length=1, max_length=100)]


class ItemPublishResult(WireModel):
    """How many feeds took the items, and how many foreground connections each of them reaches now."""

    accepted: int
    reachable: dict[str, int]


class ItemRetractParams(Targets):
    """The publisher's own ids."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=500)]


class ItemRetractResult(WireModel):
    """How many items are gone."""

    removed: int


class ItemDismissParams(Params):
    """The item's whole id; an unknown one is no mistake."""

    id: Id


METHODS = (
    Method(
        "item.publish",
        ItemPublishParams,
        ItemPublishResult,
        "Puts items into users' inboxes, whether or not they are connected; the same id replaces.",
        scope="item:publish",
        writes=True,
    ),
    Method(
        "item.retract",
        ItemRetractParams,
        ItemRetractResult,
        "Takes published items back.",
        scope="item:publish",
        writes=True,
    ),
    Method(
        "item.dismiss",
        ItemDismissParams,
        Nothing,
        "Takes an item out of one's own feed until its content changes.",
        writes=True,
    ),
)
