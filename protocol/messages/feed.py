"""`feed.*`: reading feeds and following them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protocol.messages.base import (
    CursorText,
    FeedName,
    Id,
    Json,
    Method,
    NoParams,
    Nothing,
    Notice,
    Params,
    Time,
    WireModel,
)
from protocol.messages.objects import ContextEntryObject, GroupObject, ItemObject, Snapshot, SourceErrorObject
from protocol.transport import MAX_MIN_INTERVAL_MS

__all__ = [
    "METHODS",
    "NOTIFICATIONS",
    "Cause",
    "ContextChangeObject",
    "FeedAckParams",
    "FeedClosed",
    "FeedDelta",
    "FeedGetParams",
    "FeedRefreshResult",
    "FeedSubscribeParams",
    "FeedSubscribeResult",
    "FeedUnsubscribeParams",
    "Moved",
    "Put",
    "Subscribe",
    "Subscribed",
]


class FeedGetParams(Params):
    """`feed`: somebody else's; else one's own."""

    feed: FeedName | None = None


class FeedRefreshResult(WireModel):
    """The revision that holds every source's new answer."""

    cursor: CursorText


class Subscribe(Params):
    """One feed to follow, from a cursor on where one is kept."""

    feed: FeedName
    since: CursorText | None = None
    min_interval_ms: Annotated[int, Field(ge=0, le=MAX_MIN_INTERVAL_MS)] | None = None


class FeedSubscribeParams(Params):
    """The feeds to follow."""

    feeds: Annotated[list[Subscribe], Field(min_length=1, max_length=500)]


class Subscribed(WireModel):
    """How it went with one feed: the revision that the subscription starts from, or an error object."""

    feed: FeedName
    cursor: CursorText | None = None
    error: Json = None


class FeedSubscribeResult(WireModel):
    """How it went with each feed, in the order asked for."""

    feeds: list[Subscribed]


class FeedUnsubscribeParams(Params):
    """The feeds not to follow any longer; what was not followed is no mistake."""

    feeds: Annotated[list[FeedName], Field(min_length=1, max_length=500)]


class FeedAckParams(Params):
    """The revision that is on the client's screen now."""

    feed: FeedName
    cursor: CursorText


class Put(WireModel):
    """An item that is new or changed, and its place in the new list."""

    index: Annotated[int, Field(ge=0)]
    item: ItemObject


class Moved(WireModel):
    """An unchanged item in a new place."""

    index: Annotated[int, Field(ge=0)]
    id: Id


class ContextChangeObject(WireModel):
    """Context entries that are new or changed, and keys that are gone."""

    set: list[ContextEntryObject] = Field(default_factory=list[ContextEntryObject])
    unset: list[list[Json]] = Field(default_factory=list[list[Json]])


class Cause(WireModel):
    """Why a delta came. `merged`: how many revisions went into it."""

    source_id: str | None = None
    trigger: str
    compute_ms: float
    waited_ms: float
    merged: int


class FeedDelta(WireModel):
    """Turns the revision `base` into `cursor`; `at` is the time of the oldest change in it."""

    feed: FeedName
    base: CursorText
    cursor: CursorText
    at: Time
    put: list[Put] | None = None
    move: list[Moved] | None = None
    remove: list[Id] | None = None
    groups: list[GroupObject] | None = None
    errors: list[SourceErrorObject] | None = None
    pending: list[str] | None = None
    context: ContextChangeObject | None = None
    cause: Cause | None = None


class FeedClosed(WireModel):
    """A subscription ended: the token no longer reaches that far, it was revoked, or the user is gone."""

    feed: FeedName
    reason: Literal["scope", "revoked", "gone"] | str


METHODS = (
    Method(
        "feed.get",
        FeedGetParams,
        Snapshot,
        "The whole feed as it is now. On a subscribed feed the answer is a revision of that subscription.",
        other_scope="feed:watch",
    ),
    Method(
        "feed.refresh",
        NoParams,
        FeedRefreshResult,
        "Asks every source again, and answers once each was asked.",
    ),
    Method(
        "feed.subscribe",
        FeedSubscribeParams,
        FeedSubscribeResult,
        "Follows other users' feeds, read only. Counts as one request.",
        scope="feed:watch",
    ),
    Method("feed.unsubscribe", FeedUnsubscribeParams, Nothing, "Stops following feeds.", scope=None),
    Method(
        "feed.ack",
        FeedAckParams,
        Nothing,
        "Says which revision is on the screen, at most every `ackEveryMs` of the welcome; feeds a metric.",
        scope=None,
        notification=True,
    ),
)

NOTIFICATIONS = (
    Notice("feed.snapshot", Snapshot, "A whole feed: replaces everything."),
    Notice("feed.delta", FeedDelta, "What turns the last revision into the next."),
    Notice("feed.closed", FeedClosed, "A subscription has ended."),
)
