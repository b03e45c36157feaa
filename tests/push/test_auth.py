"""What a token's claims allow, and when its end is announced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Forbidden
from protocol.ids import UserId
from protocol.messages import METHODS
from server.push.auth import (
    authorize,
    expiry_notice_at,
    matches,
    may_publish,
    may_see_context,
    may_watch,
)
from server.push.bearer import Bearer, Standing
from server.tokens.claims import Claims

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ALICE, BOB = UserId("alice"), UserId("bob")


def claims(*scopes: str, feeds: tuple[str, ...] | None = None, ttl_s: float = 3600.0) -> Claims:
    return Claims(
        user=ALICE, scopes=frozenset(scopes), feeds=feeds, iat=AT, exp=AT + timedelta(seconds=ttl_s)
    )


@pytest.mark.parametrize(
    ("patterns", "feed", "fits"),
    [
        (None, "anybody", True),
        ((), "anybody", False),
        (("bob",), "bob", True),
        (("bob",), "bobby", False),
        (("bob*",), "bobby", True),
        (("bob*",), "bo", False),
        (("*",), "anybody", True),
        (("b*b",), "bob", False),
        (("team-*", "carol"), "carol", True),
    ],
)
def test_a_pattern_ends_in_a_star_or_is_exact(
    patterns: tuple[str, ...] | None, feed: str, fits: bool
) -> None:
    assert matches(patterns, feed) is fits


def test_ones_own_feed_needs_no_scope_and_heeds_no_pattern() -> None:
    assert may_watch(claims(feeds=()), ALICE)
    assert may_see_context(claims(feeds=()), ALICE)


def test_another_feed_needs_feed_watch_within_the_patterns() -> None:
    assert not may_watch(claims(), BOB)
    assert may_watch(claims("feed:watch"), BOB)
    assert not may_watch(claims("feed:watch", feeds=("carol",)), BOB)
    assert not may_watch(claims("admin", "feed:context"), BOB)


def test_anothers_context_needs_feed_context_too() -> None:
    assert not may_see_context(claims("feed:watch"), BOB)
    assert not may_see_context(claims("feed:context"), BOB)
    assert may_see_context(claims("feed:watch", "feed:context"), BOB)


def test_publishing_needs_its_scope_even_for_ones_own_feed() -> None:
    assert not may_publish(claims(), ALICE)
    assert may_publish(claims("item:publish"), BOB)
    assert not may_publish(claims("item:publish", feeds=("b*",)), ALICE)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.scope == "admin"])
def test_an_operators_method_needs_admin(name: str) -> None:
    with pytest.raises(Forbidden) as caught:
        authorize(METHODS[name], None, claims("feed:watch", "item:publish", "feed:context"))
    assert caught.value.needs == "admin"
    authorize(METHODS[name], None, claims("admin"))


@given(st.floats(0.0, 1.0), st.floats(61.0, 10_000_000.0))
def test_the_end_is_announced_in_the_last_fifth_and_at_most_five_minutes_early(
    fraction: float, life: float
) -> None:
    early = life - expiry_notice_at(0.0, life, 0.0, fraction)
    assert early <= 300.0 + 1e-6
    assert early <= 0.2 * life + 1e-6
    assert early >= min(0.1 * life, 300.0) - 1e-6


def test_the_end_is_announced_at_once_if_under_a_minute_is_left() -> None:
    assert expiry_notice_at(0.0, 3600.0, 3541.0, 0.5) == 3541.0
    assert expiry_notice_at(0.0, 30.0, 0.0, 0.5) == 0.0


def test_connections_of_one_moment_are_not_told_at_one_moment() -> None:
    assert expiry_notice_at(0.0, 1000.0, 0.0, 0.0) == 900.0
    assert expiry_notice_at(0.0, 1000.0, 0.0, 1.0) == 800.0


def test_a_token_stands_good_then_ending_then_expired_then_over() -> None:
    start = AT.timestamp()
    bearer = Bearer(claims(ttl_s=1000.0), leeway_s=30.0, now=start, fraction=0.0)
    assert bearer.standing(start + 899.0, 5.0) is Standing.GOOD
    assert bearer.standing(start + 900.0, 5.0) is Standing.ENDING
    bearer.told = True
    assert bearer.standing(start + 1029.0, 5.0) is Standing.GOOD
    assert bearer.standing(start + 1030.0, 5.0) is Standing.EXPIRED
    assert bearer.standing(start + 1035.0, 5.0) is Standing.OVER


def test_it_is_known_when_the_standing_changes_next() -> None:
    start = AT.timestamp()
    bearer = Bearer(claims(ttl_s=1000.0), leeway_s=30.0, now=start, fraction=0.0)
    assert bearer.next_at(start, 5.0) == start + 900.0
    bearer.told = True
    assert bearer.next_at(start + 901.0, 5.0) == start + 1030.0
    assert bearer.next_at(start + 1030.0, 5.0) == start + 1035.0
