from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ids import UserId
from storage import inbox, users
from storage.database import Database
from storage.inbox import MAX_ITEMS, InboxItem

ALICE = UserId("alice")
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime.now(UTC) + timedelta(days=1)


async def publish(
    database: Database, publisher: str, items: Sequence[InboxItem], user: UserId = ALICE
) -> int:
    async with database.write(user) as tx:
        return await inbox.publish(tx, user, publisher, items)


async def ids(database: Database) -> list[str]:
    return [f"{row.publisher}/{row.id}" for row in await inbox.list_(database, ALICE)]


def numbered(count: int, start: int = 0) -> list[InboxItem]:
    return [InboxItem(str(number), {"n": number}) for number in range(start, start + count)]


async def test_what_is_published_comes_back_in_order_of_publication(database: Database) -> None:
    assert await publish(database, "shop", [InboxItem("b", {"text": "ü"}, FUTURE), InboxItem("a", {})]) == 2
    assert await publish(database, "bank", [InboxItem("b", {})]) == 1
    first, second, third = await inbox.list_(database, ALICE)
    assert (first.publisher, first.id, first.item, first.expires_at) == ("shop", "b", {"text": "ü"}, FUTURE)
    assert (second.id, third.publisher) == ("a", "bank")
    assert first.order < second.order < third.order


async def test_the_same_id_replaces_and_only_within_its_publisher(database: Database) -> None:
    await publish(database, "shop", [InboxItem("1", {"v": 1}), InboxItem("2", {})])
    await publish(database, "bank", [InboxItem("1", {"v": 9})])
    await publish(database, "shop", [InboxItem("1", {"v": 2})])
    rows = await inbox.list_(database, ALICE)
    assert [(row.publisher, row.id, row.item.get("v")) for row in rows] == [
        ("shop", "2", None),
        ("bank", "1", 9),
        ("shop", "1", 2),
    ]


async def test_of_an_id_given_twice_in_one_call_the_last_holds(database: Database) -> None:
    assert await publish(database, "shop", [InboxItem("1", {"v": 1}), InboxItem("1", {"v": 2})]) == 1
    (row,) = await inbox.list_(database, ALICE)
    assert row.item == {"v": 2}


async def test_at_the_limit_the_oldest_goes_whoever_published_it(database: Database) -> None:
    await publish(database, "shop", numbered(MAX_ITEMS // 2))
    await publish(database, "bank", numbered(MAX_ITEMS // 2))
    await publish(database, "shop", [InboxItem("0", {"again": True})])  # replaces: nobody has to go
    assert len(await ids(database)) == MAX_ITEMS
    await publish(database, "post", [InboxItem("new", {})])
    now = await ids(database)
    assert len(now) == MAX_ITEMS
    assert now[0] == "shop/2"
    assert now[-2:] == ["shop/0", "post/new"]


async def test_what_has_expired_goes_before_what_is_merely_old(database: Database) -> None:
    await publish(database, "shop", numbered(MAX_ITEMS - 1))
    await publish(database, "bank", [InboxItem("over", {}, PAST)])
    await publish(database, "bank", [InboxItem("new", {})])
    now = await ids(database)
    assert "bank/over" not in now
    assert (now[0], now[-1], len(now)) == ("shop/0", "bank/new", MAX_ITEMS)


async def test_a_call_with_more_than_fits_keeps_its_last(database: Database) -> None:
    await publish(database, "shop", numbered(3))
    assert await publish(database, "shop", numbered(MAX_ITEMS + 5, start=10)) == MAX_ITEMS
    now = await ids(database)
    assert (len(now), now[0], now[-1]) == (MAX_ITEMS, "shop/15", f"shop/{MAX_ITEMS + 14}")


async def test_a_publisher_takes_back_only_its_own(database: Database) -> None:
    await publish(database, "shop", numbered(3))
    await publish(database, "bank", numbered(3))
    async with database.write(ALICE) as tx:
        assert await inbox.retract(tx, ALICE, "shop", ["0", "2", "nothing"]) == 2
        assert await inbox.retract(tx, ALICE, "shop", ["0"]) == 0
    assert await ids(database) == ["shop/1", "bank/0", "bank/1", "bank/2"]


async def test_publishing_to_a_user_never_seen_before_stores_it(database: Database) -> None:
    await publish(database, "shop", numbered(1), user=UserId("stranger"))
    assert await users.exists(database, UserId("stranger"))
    assert len(await inbox.list_(database, UserId("stranger"))) == 1


async def test_publishing_nothing_does_nothing(database: Database) -> None:
    await publish(database, "shop", numbered(2))
    assert await publish(database, "shop", []) == 0
    assert len(await ids(database)) == 2


async def test_pruning_clears_away_what_expired_long_ago_without_a_write_of_the_user(
    database: Database,
) -> None:
    just_now = datetime.now(UTC) - timedelta(minutes=1)
    expiries = [PAST, PAST, just_now, FUTURE, None]
    items = [InboxItem(str(place), {}, expires_at) for place, expires_at in enumerate(expiries)]
    async with database.write(ALICE) as tx:
        await inbox.publish(tx, ALICE, "shop", items)
    assert await inbox.prune_expired(database, limit=1) == 1
    assert await inbox.prune_expired(database) == 1
    assert await inbox.prune_expired(database) == 0
    assert await ids(database) == ["shop/2", "shop/3", "shop/4"]
    assert await database.differing([(ALICE, tx.seq)]) == []


calls = st.lists(
    st.tuples(
        st.sampled_from(["shop", "bank"]),
        st.sampled_from(["publish", "retract"]),
        st.lists(st.integers(0, 120), max_size=110),
    ),
    max_size=8,
)


async def test_it_keeps_what_a_plain_list_would(database: Database) -> None:
    """Any calls in any order, against the simplest description of the rules."""
    failures: list[str] = []
    drawn: list[list[tuple[str, str, list[int]]]] = []

    @settings(max_examples=15)
    @given(calls)
    def draw(example: list[tuple[str, str, list[int]]]) -> None:
        drawn.append(example)

    draw()
    for number, example in enumerate(drawn):
        user = UserId(f"user-{number}")
        kept: dict[tuple[str, str], None] = {}
        for publisher, call, numbers in example:
            names = [str(name) for name in numbers]
            async with database.write(user) as tx:
                if call == "publish":
                    await inbox.publish(tx, user, publisher, [InboxItem(name, {}) for name in names])
                    # An id given twice stands where it was given first: only its content is the last.
                    for name in dict.fromkeys(names):
                        kept.pop((publisher, name), None)
                        kept[publisher, name] = None
                else:
                    await inbox.retract(tx, user, publisher, names)
                    for name in names:
                        kept.pop((publisher, name), None)
                kept = dict.fromkeys(list(kept)[-MAX_ITEMS:])
        found = [(row.publisher, row.id) for row in await inbox.list_(database, user)]
        if found != list(kept):
            failures.append(f"{example}: {found}")
    assert drawn
    assert failures == []
