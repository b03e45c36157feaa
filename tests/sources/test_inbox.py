from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frozen import JsonValue
from server.sources.inbox import InboxSource, inbox_item, inbox_item_id
from storage.inbox import MAX_ITEMS, InboxItem, InboxRow, publish, retract
from storage.loading import UserRows
from tests.sources.conftest import ALICE, Feed, Home, House
from tests.sources.reminders.series import utc

NINE = utc("2026-03-02T09:00")


def row(
    name: str = "n",
    publisher: str = "shop",
    at: datetime = NINE,
    expires_at: datetime | None = None,
    **item: JsonValue,
) -> InboxRow:
    wire: dict[str, JsonValue] = {"id": name, "type": "parcel", "data": {"text": "It is here"}, **item}
    if expires_at is not None:
        wire["expiresAt"] = expires_at.isoformat()
    return InboxRow(publisher, name, wire, expires_at, at, (1, 1))


def rows(*inbox: InboxRow) -> UserRows:
    return UserRows(ALICE, inbox=list(inbox))


async def put(home: Home, who: str, *items: InboxItem) -> None:
    """As a service publishes: through the manager, in the order of the user's writes."""
    await home.manager.write(ALICE, lambda tx: publish(tx, ALICE, who, items))
    await home.settle()


def parcel(name: str, text: str = "It is here") -> InboxItem:
    return InboxItem(name, {"id": name, "type": "parcel", "data": {"text": text}})


def inbox_of(home: Home) -> list[str]:
    return [item.id for item in home.items if item.source_id == "freya.inbox"]


async def test_what_is_published_shows_the_newest_first(home: Home) -> None:
    await put(home, "shop", parcel("1"), parcel("2"))
    await put(home, "bank", parcel("3"))
    assert inbox_of(home) == ["freya.inbox/bank.3", "freya.inbox/shop.2", "freya.inbox/shop.1"]


async def test_the_same_id_replaces_and_comes_to_the_top(home: Home) -> None:
    await put(home, "shop", parcel("1"), parcel("2"))
    await put(home, "shop", parcel("1", "It left"))
    assert inbox_of(home) == ["freya.inbox/shop.1", "freya.inbox/shop.2"]
    assert [data["text"] for data in home.data("parcel")] == ["It left", "It is here"]


async def test_two_publishers_do_not_share_their_ids(home: Home) -> None:
    await put(home, "shop", parcel("1"))
    await put(home, "bank", parcel("1"))
    assert len(inbox_of(home)) == 2
    await home.manager.write(ALICE, lambda tx: retract(tx, ALICE, "bank", ["1"]))
    await home.settle()
    assert inbox_of(home) == ["freya.inbox/shop.1"]


async def test_what_was_published_survives_a_restart(house: House) -> None:
    async with house.home() as home:
        await put(home, "shop", parcel("1"))
    async with house.home() as again:
        assert inbox_of(again) == ["freya.inbox/shop.1"]


async def test_past_the_limit_the_oldest_goes(home: Home) -> None:
    await put(home, "shop", *(parcel(str(n)) for n in range(MAX_ITEMS)))
    await put(home, "shop", parcel("last"))
    shown = inbox_of(home)
    assert (len(shown), shown[0], shown[-1]) == (MAX_ITEMS, "freya.inbox/shop.last", "freya.inbox/shop.1")


async def test_an_item_goes_at_its_time_without_anybody_being_asked(feed: Feed) -> None:
    source = InboxSource()
    source.restore(rows(row("stays"), row("goes", expires_at=NINE + timedelta(minutes=5))))
    await feed.add(source)
    await feed.clock.advance(299)
    assert len(feed.items) == 2
    await feed.clock.advance(1)
    assert [item.id for item in feed.items] == ["freya.inbox/shop.stays"]
    assert feed.engine.statistics().runs == 1


async def test_rows_that_were_read_again_and_are_the_same_report_nothing(feed: Feed) -> None:
    source = InboxSource()
    source.restore(rows(row("a"), row("b")))
    await feed.add(source)
    before, pushes = feed.items, feed.engine.statistics().pushes
    source.restore(rows(row("a"), row("b")))
    assert (feed.items, feed.engine.statistics().pushes) == (before, pushes)
    source.restore(rows(row("b"), row("a")))
    assert feed.items == before[::-1]
    assert feed.items[0] is before[1]
    source.restore(rows())
    assert feed.items == ()


async def test_a_row_that_cannot_be_read_costs_itself_alone(feed: Feed) -> None:
    source = InboxSource()
    source.restore(rows(row("a"), row("broken", data=5)))
    await feed.add(source)
    assert [item.id for item in feed.items] == ["freya.inbox/shop.a"]


def test_an_item_is_what_was_published_under_an_id_of_the_feed() -> None:
    signals: dict[str, JsonValue] = {"urgency": 0.9, "timeRelevance": "imminent"}
    slots: dict[str, JsonValue] = {"insight": {"description": "Why?", "content": None}}
    item = inbox_item(
        row(
            "n",
            timestamp="2026-03-01T08:00:00Z",
            signals=signals,
            slots=slots,
            ui={"icon": "box"},
            expires_at=NINE,
        )
    )
    assert (item.id, item.source_id, item.type) == ("freya.inbox/shop.n", "freya.inbox", "parcel")
    assert (item.timestamp, item.expires_at) == (utc("2026-03-01T08:00"), NINE)
    assert item.data == {"text": "It is here"}
    assert item.signals is not None
    assert item.signals.wire() == signals
    assert item.slots is not None
    assert item.slots["insight"].description == "Why?"
    assert item.ui == {"icon": "box"}


def test_without_a_time_of_its_own_it_has_that_of_its_publication() -> None:
    assert inbox_item(row(at=NINE)).timestamp == NINE


@pytest.mark.parametrize("pretended", [{"sourceId": "freya.calendar"}, {"id": "freya.calendar/1"}])
def test_a_publisher_cannot_pass_for_another_source(pretended: dict[str, JsonValue]) -> None:
    honest = row("n")
    item = inbox_item(replace(honest, item={**honest.item, **pretended}))
    assert (item.id, item.source_id) == ("freya.inbox/shop.n", "freya.inbox")


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(names, names, names, names)
def test_no_two_published_items_share_an_id_in_the_feed(one: str, its: str, other: str, others: str) -> None:
    assert (inbox_item_id(one, its) == inbox_item_id(other, others)) == ((one, its) == (other, others))


@given(names, names)
def test_an_id_in_the_feed_is_plain_ascii(one: str, its: str) -> None:
    name = inbox_item_id(one, its)
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
