"""What a token's claims allow on the push side, and when its end is announced. Pure."""

from __future__ import annotations

from typing import Final

from protocol.errors import Forbidden
from protocol.ids import UserId
from protocol.messages import Method, Params
from protocol.messages.feed import FeedGetParams
from protocol.messages.item import Targets
from protocol.messages.source import SourceListParams, SourceParams
from server.tokens.claims import Claims

__all__ = [
    "ADMIN",
    "FEED_CONTEXT",
    "FEED_WATCH",
    "ITEM_PUBLISH",
    "authorize",
    "expiry_notice_at",
    "matches",
    "may_publish",
    "may_see_context",
    "may_watch",
]

FEED_WATCH: Final = "feed:watch"
FEED_CONTEXT: Final = "feed:context"
ITEM_PUBLISH: Final = "item:publish"
ADMIN: Final = "admin"

_NOTICE_MAX_S: Final = 300.0
_NOTICE_MIN_S: Final = 60.0


def matches(patterns: tuple[str, ...] | None, feed: str) -> bool:
    """Whether one of a token's `feeds` patterns fits; without patterns everything does."""
    if patterns is None:
        return True
    return any(
        feed.startswith(pattern[:-1]) if pattern.endswith("*") else feed == pattern for pattern in patterns
    )


def may_watch(claims: Claims, feed: UserId) -> bool:
    """One's own feed always; another's with `feed:watch`, within the token's patterns."""
    return feed == claims.user or (FEED_WATCH in claims.scopes and matches(claims.feeds, feed))


def may_see_context(claims: Claims, feed: UserId) -> bool:
    """One's own context always; another's with `feed:context`, where the feed may be watched."""
    return feed == claims.user or (FEED_CONTEXT in claims.scopes and may_watch(claims, feed))


def may_publish(claims: Claims, feed: UserId) -> bool:
    """`item:publish`, within the token's patterns; one's own feed is no exception."""
    return ITEM_PUBLISH in claims.scopes and matches(claims.feeds, feed)


def authorize(method: Method, params: Params | None, claims: Claims) -> None:
    """Raises Forbidden unless the token reaches the method (`params` None), or whomever the params name."""
    if params is None:
        if method.scope not in {None, "own"} and method.scope not in claims.scopes:
            raise Forbidden(str(method.scope))
        return
    match params:
        case FeedGetParams(feed=str(feed)) if not may_watch(claims, UserId(feed)):
            raise Forbidden(FEED_WATCH)
        case SourceParams(user=str(user)) | SourceListParams(user=str(user)):
            if user != claims.user and ADMIN not in claims.scopes:
                raise Forbidden(ADMIN)
        case Targets():
            if not all(may_publish(claims, UserId(feed)) for feed in params.targets):
                raise Forbidden(ITEM_PUBLISH)
        case _:
            pass


def expiry_notice_at(iat: float, exp: float, now: float, fraction: float) -> float:
    """When `connection.expiring` is due: in the last 10 to 20 % of the token's life (`fraction`, from 0 to 1,
    says where), at most 5 minutes before its end, at once if under a minute is left. Seconds of one clock.
    """
    if exp - now < _NOTICE_MIN_S:
        return now
    early = min(max(exp - iat, 0.0) * (0.1 + 0.1 * fraction), _NOTICE_MAX_S)
    return max(now, exp - early)
