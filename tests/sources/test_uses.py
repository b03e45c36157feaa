"""What it means to use another source's context without needing it."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.feed import ContextEntry
from protocol.frozen import JsonValue
from protocol.ids import SourceId
from server.engine.context import Context
from server.engine.graph import plan
from server.engine.source import Answer, FeedSource
from tests.sources.conftest import Feed
from tests.sources.reminders.series import utc

A, B, C, D = (SourceId(f"com.example.{name}") for name in "abcd")


class Teller(FeedSource):
    """Has something to tell; may need others for it."""

    refresh_every_s = 0

    def __init__(self, name: SourceId, word: str, *needs: SourceId) -> None:
        self.id = name
        self.dependencies = needs
        self._word = word

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        return [self.entry("word", value=self._word)]


class Hearer(FeedSource):
    """Shows what those say whom it uses; may itself have something to tell."""

    refresh_every_s = 0

    def __init__(self, name: SourceId, *uses: SourceId, says: str | None = None) -> None:
        self.id = name
        self.uses = uses
        self._says = says
        self.asked = 0

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        return [] if self._says is None else [self.entry("word", value=self._says)]

    async def fetch_items(self, ctx: Context) -> Answer:
        self.asked += 1
        words: list[JsonValue] = [ctx.get((name, "word")) for name in self.uses]
        item = self.item("heard", type="heard", timestamp=utc("2026-03-02"), data={"words": words})
        return Answer((item,))


def heard(feed: Feed) -> JsonValue:
    [item] = feed.of_type("heard")
    return item.data["words"]


async def test_it_runs_without_what_it_uses(feed: Feed) -> None:
    await feed.add(Hearer(A, B))
    assert heard(feed) == [None]


async def test_what_it_uses_is_asked_first_so_that_it_is_asked_once(feed: Feed) -> None:
    hearer = Hearer(A, B)
    await feed.add(hearer, Teller(B, "hello"))
    assert heard(feed) == ["hello"]
    asked = hearer.asked
    await feed.refresh()
    assert hearer.asked == asked + 1


async def test_it_hears_when_what_it_uses_comes_changes_and_goes(feed: Feed) -> None:
    await feed.add(Hearer(A, B))
    await feed.add(Teller(B, "hello"))
    assert heard(feed) == ["hello"]
    await feed.add(Teller(B, "bye"))
    assert heard(feed) == ["bye"]
    feed.engine.remove(B)
    await feed.clock.advance(0.2)
    assert heard(feed) == [None]


async def test_when_what_it_uses_is_blocked_it_goes_on_without(feed: Feed) -> None:
    await feed.add(Hearer(A, B), Teller(B, "hello", C), Teller(C, "base"))
    assert heard(feed) == ["hello"]
    feed.engine.remove(C)
    await feed.clock.advance(0.2)
    assert feed.engine.status(B).blocked_by == C
    assert heard(feed) == [None]
    await feed.add(Teller(C, "base"))
    assert heard(feed) == ["hello"]


async def test_two_that_use_each_other_both_run(feed: Feed) -> None:
    await feed.add(Hearer(A, B, says="a"), Hearer(B, A, says="b"))
    assert [item.data["words"] for item in feed.of_type("heard")] == [["b"], ["a"]]


def test_what_is_used_comes_first_where_that_is_possible() -> None:
    arranged = plan(((A, ()), (B, ()), (C, (A,))), ((A, (B,)),))
    assert arranged.order == (B, A, C)
    assert arranged.dependents == {A: (C,), B: (A, C)}
    assert arranged.before == {A: (B,), C: (A,)}


def test_a_circle_of_uses_leaves_the_order_as_it_was() -> None:
    arranged = plan(((A, ()), (B, (A,))), ((A, (B,)),))
    assert (arranged.order, arranged.blocked) == ((A, B), {})
    assert arranged.before == {B: (A,)}
    assert arranged.dependents == {A: (B,), B: (A,)}


def test_who_uses_what_is_missing_will_hear_of_it() -> None:
    arranged = plan(((A, ()),), ((A, (D,)),))
    assert (arranged.order, arranged.blocked) == ((A,), {})
    assert arranged.dependents == {D: (A,)}
