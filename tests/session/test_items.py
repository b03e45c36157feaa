"""What services publish: stored for anybody, shown where there is a session."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from protocol.errors import InvalidParams, LimitReached
from protocol.frozen import JsonValue
from protocol.ids import UserId
from protocol.messages.objects import PublishItem
from protocol.times import to_wire
from server.sources.inbox import INBOX_ID
from storage import inbox
from tests.session.conftest import ALICE, BOB, Listener, Replica, World, texts


def note(local: str, text: str, **more: JsonValue) -> PublishItem:
    return PublishItem.read({"id": local, "type": "note", "data": {"text": text}, **more})


async def inbox_of(replica: Replica, user: UserId = ALICE) -> list[tuple[str, str]]:
    return [(row.publisher, row.id) for row in await inbox.list_(replica.database, user)]


async def test_what_is_published_is_in_the_feed_when_the_publisher_has_its_answer(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    listener = Listener()
    session.attach(listener)
    replica.reached = {ALICE: 2}
    published = await replica.items.publish("shop", [ALICE, BOB], [note("1", "one"), note("2", "two")])
    assert (published.accepted, published.reachable) == (2, {ALICE: 2, BOB: 0})
    assert sorted(texts(session)) == ["one", "two"]
    assert listener.revisions


async def test_publishing_to_users_never_seen_stores_and_builds_no_session(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    stranger = UserId("stranger")
    await replica.items.publish("shop", [stranger], [note("1", "one")])
    assert replica.manager.live(stranger) is None
    assert texts(await replica.session(stranger)) == ["one"]


async def test_publishing_to_a_switched_off_inbox_stores_for_later(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    await replica.sources.patch(ALICE, INBOX_ID, enabled=False)
    await replica.items.publish("shop", [ALICE], [note("1", "one")])
    assert texts(session) == []
    await replica.sources.patch(ALICE, INBOX_ID, enabled=True)
    await world.eventually(lambda: texts(session) == ["one"])


async def test_the_same_id_replaces_and_publishers_do_not_meet(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    await replica.items.publish("shop", [ALICE], [note("1", "old")])
    await replica.items.publish("shop", [ALICE], [note("1", "new")])
    await replica.items.publish("bank", [ALICE], [note("1", "other")])
    assert sorted(texts(session)) == ["new", "other"]


async def test_retracting_takes_only_the_publishers_own_items(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    await replica.items.publish("shop", [ALICE, BOB], [note("1", "a"), note("2", "b")])
    await replica.items.publish("bank", [ALICE], [note("1", "c")])
    assert await replica.items.retract("shop", [ALICE, BOB], ["1", "nope"]) == 2
    assert sorted(texts(session)) == ["b", "c"]


async def test_retracting_what_is_not_there_is_no_write(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    seq = session.seq
    assert await replica.items.retract("shop", [ALICE, UserId("nobody")], ["1"]) == 0
    assert await replica.database.differing([(ALICE, seq), (UserId("nobody"), 0)]) == []


async def test_at_its_limit_the_inbox_lets_the_oldest_go(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    for start in (0, 100, 200):
        items = [note(str(start + index), "x") for index in range(100)]
        await replica.items.publish("shop", [ALICE], items)
    ids = [local for _, local in await inbox_of(replica)]
    assert len(ids) == 200
    assert ids[0] == "100"
    assert len(texts(session)) == 200


async def test_a_published_item_is_hidden_when_it_expires(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    session.attach(Listener())
    end = world.clock.now() + timedelta(seconds=30)
    await replica.items.publish("shop", [ALICE], [note("1", "soon over", expiresAt=to_wire(end))])
    assert texts(session) == ["soon over"]
    await world.advance(29.0)
    assert texts(session) == ["soon over"]
    await world.advance(1.5)
    assert texts(session) == []


@pytest.mark.parametrize(
    ("feeds", "items", "limit"), [(501, 1, "feeds"), (1, 101, "items")], ids=["feeds", "items"]
)
async def test_too_many_feeds_or_items_are_refused_as_a_whole(
    world: World, feeds: int, items: int, limit: str
) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    named = [UserId(f"user-{number}") for number in range(feeds)]
    with pytest.raises(LimitReached) as caught:
        await replica.items.publish("shop", named, [note(str(number), "x") for number in range(items)])
    assert caught.value.limit == limit
    assert await inbox_of(replica, named[0]) == []


async def test_an_item_too_large_is_refused_and_so_is_everything_with_it(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    with pytest.raises(LimitReached) as caught:
        await replica.items.publish("shop", [ALICE], [note("1", "fine"), note("2", "x" * 40_000)])
    assert caught.value.limit == "itemBytes"
    assert await inbox_of(replica) == []


async def test_an_item_that_no_feed_could_show_is_refused_with_its_place(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    bad: Any = note("2", "x").model_copy(update={"type": "bad\0type"})
    with pytest.raises(InvalidParams) as caught:
        await replica.items.publish("shop", [ALICE], [note("1", "fine"), bad])
    assert caught.value.issues[0].path[:2] == ("items", 1)
    assert await inbox_of(replica) == []


async def test_publishing_to_five_hundred_feeds_reaches_each_of_them(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    feeds = [UserId(f"user-{number}") for number in range(500)]
    session = await replica.session(feeds[17])
    published = await replica.items.publish("shop", feeds, [note("1", "to all")])
    assert published.accepted == 500
    assert texts(session) == ["to all"]
    row = await replica.database.fetch_one("SELECT count(*) FROM inbox_items")
    assert row is not None
    assert row[0] == 500


async def test_a_feed_named_twice_is_one_feed(world: World) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    published = await replica.items.publish("shop", [ALICE, ALICE], [note("1", "one")])
    assert published.accepted == 1
