"""What the base class does for a source."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from protocol.frozen import JsonValue
from server.engine import ActionSpec, Answer, Context, FeedSource, SourceFailure, Unauthorized
from tests.engine.sources import Both, Contextual, Fetching, Pushing
from tests.support.clock import START


class Params(BaseModel):
    title: str = Field(title="Title", max_length=10)


class Acting(Pushing):
    def actions(self) -> list[ActionSpec]:
        return [ActionSpec("create", "Create", "Makes one", Params), ActionSpec("clear", "Clear")]

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        if action_id == "create" and isinstance(params, Params):
            return {"made": params.title}
        return await super().execute_action(action_id, params)


def test_what_is_overridden_is_what_is_asked() -> None:
    asked = {
        kind: (kind.fetches_context, kind.fetches_items) for kind in (Pushing, Fetching, Contextual, Both)
    }
    assert asked == {
        Pushing: (False, False),
        Fetching: (False, True),
        Contextual: (True, False),
        Both: (True, True),
    }

    class Grandchild(Fetching):
        pass

    assert Grandchild.fetches_items
    assert not Grandchild.reconsiders


def test_items_and_entries_bear_the_sources_id() -> None:
    source = Pushing("a.s")
    item = source.item("x/1", type="t", timestamp=START, data={})
    assert (item.id, item.source_id) == ("a.s/x/1", "a.s")
    assert source.entry("place", 1, value=2).key == ("a.s", "place", 1)
    with pytest.raises(ValueError, match="data"):
        source.item("1", type="t", timestamp=START, data={"x": float("nan")})


def test_the_default_input_key_is_what_the_sources_it_reads_know() -> None:
    class Reader(Pushing):
        uses = ("b.y",)

    source, x, y, z = Reader("a.s", "b.x"), Pushing("b.x"), Pushing("b.y"), Pushing("b.z")

    def key(*values: int) -> object:
        entries = [s.entry("k", value=v) for s, v in zip((x, y, z), values, strict=True)]
        return source.input_key(Context.of(entries, START))

    assert key(1, 2, 3) == key(1, 2, 9)
    assert key(1, 2, 3) != key(9, 2, 3)
    assert key(1, 2, 3) != key(1, 9, 3)


def test_an_action_describes_its_input_as_json_schema() -> None:
    create, clear = Acting("a.s").actions()
    info = create.info()
    assert (info["id"], info["label"], info["description"]) == ("create", "Create", "Makes one")
    schema = info["inputSchema"]
    assert isinstance(schema, dict)
    assert schema["required"] == ["title"]
    assert clear.info() == {"id": "clear", "label": "Clear"}


async def test_an_unknown_action_is_refused() -> None:
    source = Acting("a.s")
    assert await source.execute_action("create", Params(title="x")) == {"made": "x"}
    with pytest.raises(SourceFailure, match="no action"):
        await source.execute_action("destroy", None)


def test_a_dismissed_item_comes_back_when_its_data_changes() -> None:
    source = Pushing("a.s")
    assert source.dismiss_key(source.one(value=1)) == source.dismiss_key(source.one("2", value=1))
    assert source.dismiss_key(source.one(value=1)) != source.dismiss_key(source.one(value=2))


def test_a_handle_is_there_only_after_attach() -> None:
    source = Pushing("a.s")
    assert not source.attached
    with pytest.raises(RuntimeError, match=r"a\.s is not attached"):
        _ = source.handle


async def test_the_base_class_answers_nothing() -> None:
    class Least(FeedSource):
        id = "a.least"

    least, ctx = Least(), Context.of((), START)
    for ask in (least.fetch_context, least.fetch_items):
        with pytest.raises(NotImplementedError):
            await ask(ctx)
    with pytest.raises(NotImplementedError):
        least.reconsider(ctx)
    await least.aclose()


def test_a_failure_says_who_failed() -> None:
    failure = Unauthorized("Connect again", retry_after_s=5)
    assert (failure.code, failure.message, failure.retry_after_s) == ("unauthorized", "Connect again", 5)
    assert SourceFailure("x").code == "internal"
    assert SourceFailure("x", code="limit").code == "limit"


def test_an_answer_is_made_of_any_iterable() -> None:
    source = Pushing("a.s")
    assert Answer.of(iter([source.one()]), START) == Answer((source.one(),), START)
