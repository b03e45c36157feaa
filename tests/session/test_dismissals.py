from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import FeedItem, Group
from protocol.messages.objects import PublishItem
from server.engine.context import Context
from server.engine.processors import Processed
from server.engine.source import ConfigProblem, FeedSource
from server.session.dismissals import SYNTHETIC_SOURCE, Dismissals, dismissal_of
from server.session.user_session import UserSession
from server.sources.inbox import INBOX_ID
from storage.loading import UserRows
from tests.session.conftest import ALICE, NO_CHORES, World, texts
from tests.session.providers import STAGE, Built, Stage, StageSource

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
NOBODY = FeedSource()


def item(local: str, text: str, kind: str = "text", source: str = "test.a") -> FeedItem:
    return FeedItem.make(
        id=f"{source}/{local}", source_id=source, type=kind, timestamp=NOW, data={"text": text}
    )


def hidden(dismissals: Dismissals, *items: FeedItem, now: datetime = NOW) -> list[str]:
    shown = dismissals.apply(items, NOBODY.dismiss_key, now)
    return [each.id for each in items if each not in shown]


def test_a_dismissed_item_is_hidden_until_its_content_changes() -> None:
    dismissals = Dismissals([dismissal_of(item("1", "a"), NOBODY.dismiss_key, NOW)])
    assert hidden(dismissals, item("1", "a"), item("2", "a")) == ["test.a/1"]
    assert hidden(dismissals, item("1", "b")) == []
    assert hidden(dismissals, item("1", "a", kind="other")) == []


def test_what_counts_as_content_is_for_the_source_to_say() -> None:
    def by_type(_: FeedItem) -> bytes:
        return b"always the same"

    dismissals = Dismissals([dismissal_of(item("1", "a"), by_type, NOW)])
    assert dismissals.apply((item("1", "quite another"),), by_type, NOW) == ()


def test_where_nothing_is_hidden_the_list_is_the_same_object() -> None:
    items = (item("1", "a"), item("2", "b"))
    assert Dismissals().apply(items, NOBODY.dismiss_key, NOW) is items
    dismissals = Dismissals([dismissal_of(item("9", "a"), NOBODY.dismiss_key, NOW)])
    assert dismissals.apply(items, NOBODY.dismiss_key, NOW) is items


def test_a_made_up_item_is_dismissed_by_its_type_for_a_day() -> None:
    first = item("1", "Nice morning", "briefing", SYNTHETIC_SOURCE)
    other = item("2", "Quite another text", "briefing", SYNTHETIC_SOURCE)
    nudge = item("3", "Drink water", "nudge", SYNTHETIC_SOURCE)
    dismissals = Dismissals([dismissal_of(first, NOBODY.dismiss_key, NOW)])
    assert hidden(dismissals, first, other, nudge) == [first.id, other.id]
    assert dismissals.next_end(NOW) == NOW + timedelta(hours=24)
    assert hidden(dismissals, first, other, now=NOW + timedelta(hours=24)) == []
    assert dismissals.next_end(NOW + timedelta(hours=24)) is None


def test_taking_over_the_same_rows_is_no_change() -> None:
    rows = [dismissal_of(item("1", "a"), NOBODY.dismiss_key, NOW)]
    dismissals = Dismissals()
    assert dismissals.replace(rows)
    assert not dismissals.replace(rows)
    assert dismissals.replace([])
    assert len(dismissals) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=6), st.data())
def test_dismissing_hides_exactly_those_whose_content_is_the_dismissed_one(
    dismissed: list[tuple[int, int]], data: st.DataObject
) -> None:
    rows = [dismissal_of(item(str(local), str(text)), NOBODY.dismiss_key, NOW) for local, text in dismissed]
    dismissals = Dismissals(rows)
    newest = dict(dismissed)
    for _ in range(3):
        contents = data.draw(st.dictionaries(st.integers(0, 5), st.integers(0, 2)))
        items = [item(str(local), str(text)) for local, text in contents.items()]
        expected = [f"test.a/{local}" for local, text in contents.items() if newest.get(local) == text]
        assert hidden(dismissals, *items) == expected


async def test_dismissing_takes_an_item_out_of_the_feed_until_its_content_changes(world: World) -> None:
    stage = Stage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    await replica.items.dismiss(ALICE, f"{STAGE}/0")
    assert texts(session) == []
    (source,) = stage.made
    source.handle.push_items(source.items("hello"))
    assert texts(session) == []
    source.handle.push_items(source.items("something new"))
    assert texts(session) == ["something new"]


async def test_dismissing_an_unknown_item_is_no_mistake_and_no_write(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    session = await replica.session()
    await replica.items.dismiss(ALICE, "no.such/item")
    await replica.items.dismiss(ALICE, "nonsense")
    assert session.seq == 1


async def test_a_dismissed_item_leaves_its_groups_too(world: World) -> None:
    class Pair:
        name = "test.pair"

        def __call__(self, items: object, ctx: Context) -> Processed:
            return Processed(groups=[Group((f"{STAGE}/0", f"{STAGE}/1"), "both")])

    replica = await world.replica(Stage(), defaults=[STAGE], processors=[Pair()])
    await replica.session()
    await replica.sources.patch(ALICE, STAGE, config={"count": 2})
    session = await replica.session()
    await world.eventually(lambda: len(texts(session)) == 2)
    await replica.items.dismiss(ALICE, f"{STAGE}/0")
    assert [group.item_ids for group in session.history.current.state.groups] == [(f"{STAGE}/1",)]


async def test_dismissals_survive_a_restart_and_travel_to_other_replicas(world: World) -> None:
    replica = await world.replica(Stage(), defaults=[STAGE])
    other = await world.replica(Stage(), defaults=[STAGE])
    await replica.session()
    mirror = await other.session()
    await replica.items.dismiss(ALICE, f"{STAGE}/0")
    await world.eventually(lambda: texts(mirror) == [])
    await replica.manager.remove(ALICE)
    assert texts(await replica.session()) == []


async def test_a_dismissed_inbox_item_comes_back_when_it_is_published_with_other_content(
    world: World,
) -> None:
    replica = await world.replica(defaults=[INBOX_ID])
    session = await replica.session()
    await replica.items.publish("shop", [ALICE], [_order("on its way")])
    assert texts(session) == ["on its way"]
    await replica.items.dismiss(ALICE, session.history.current.state.items[0].id)
    await replica.items.publish("shop", [ALICE], [_order("on its way")])
    assert texts(session) == []
    await replica.items.publish("shop", [ALICE], [_order("delivered")])
    assert texts(session) == ["delivered"]


def _order(text: str) -> PublishItem:
    return PublishItem.read({"id": "order", "type": "note", "data": {"text": text}})


class Morning:
    """An overlay that adds a made-up item."""

    def __init__(self, session: UserSession) -> None:
        self.session = session

    def fill(self, items: tuple[FeedItem, ...], context: Context) -> tuple[FeedItem, ...]:
        return (*items, MORNING)

    def restore(self, rows: UserRows) -> None: ...

    def revised(self, session: UserSession) -> None: ...

    def listening(self, session: UserSession) -> None: ...

    async def aclose(self) -> None: ...


MORNING = item("morning", "Good morning", "briefing", SYNTHETIC_SOURCE)


async def test_a_dismissed_made_up_item_comes_back_by_itself_after_a_day(world: World) -> None:
    replica = await world.replica(overlay=Morning, options=NO_CHORES)
    session = await replica.session()
    assert texts(session) == ["Good morning"]
    await replica.items.dismiss(ALICE, MORNING.id)
    assert texts(session) == []
    await world.advance(23.9 * 3600)
    assert texts(session) == []
    await world.advance(0.2 * 3600)
    assert texts(session) == ["Good morning"]


async def test_what_a_source_calls_content_also_holds_for_items_shown_before_it_was_built(
    world: World,
) -> None:
    """The saved items of a cold session are looked at before the source is there to say what counts."""

    class Loose(StageSource):
        def dismiss_key(self, item: FeedItem) -> bytes:
            return b"the same, whatever it says"

    class LooseStage(Stage):
        async def source_for_user(self, *args: object, **kwargs: object) -> FeedSource:
            made = await super().source_for_user(*args, **kwargs)  # pyright: ignore[reportArgumentType] -- passed on
            made.__class__ = Loose
            return made

    stage = LooseStage()
    replica = await world.replica(stage, defaults=[STAGE])
    session = await replica.session()
    await replica.items.dismiss(ALICE, f"{STAGE}/0")
    await replica.manager.save()
    await replica.manager.remove(ALICE)

    async def refuse(_: Built) -> None:
        raise ConfigProblem("not now")

    stage.on_build = refuse
    session = await replica.session()
    assert session.source_state(STAGE)["status"] == "failing"
    assert texts(session) == []
    stage.on_build = None
    await world.eventually(lambda: session.source_state(STAGE)["status"] == "active")
    assert texts(session) == []
