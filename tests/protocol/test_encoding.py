from __future__ import annotations

import orjson
import pytest
from hypothesis import given

from protocol import encoding
from protocol.delta import diff
from protocol.errors import InternalError, ParseError
from protocol.feed import ContextEntry, FeedState
from protocol.frozen import JsonValue
from protocol.jsonrpc import Notification, Request, Response, parse
from protocol.messages.feed import FeedDelta
from protocol.messages.objects import Snapshot
from tests.protocol.strategies import START, json_values, make_item, states, texts

CONTEXT = FeedState(context=(ContextEntry.make(("s",), 1),))


@given(texts, states)
def test_a_snapshot_is_the_message_that_the_contract_has(feed: str, state: FeedState) -> None:
    message = parse(encoding.snapshot_message(feed, "cur", START, state, context=True))
    assert isinstance(message, Notification)
    assert message.method == "feed.snapshot"
    assert message.params["feed"] == feed
    assert message.params["at"] == "2026-03-02T09:00:00Z"
    assert FeedState.from_wire(message.params) == state
    if feed:
        Snapshot.read(message.params)


@given(states)
def test_the_answer_to_feed_get_is_the_snapshots_params(state: FeedState) -> None:
    params = encoding.snapshot_result("alice", "cur", START, state, context=False)
    whole = orjson.loads(encoding.snapshot_message("alice", "cur", START, state, context=False))
    assert orjson.loads(params) == whole["params"]


@given(texts, states, states)
def test_a_delta_is_the_message_that_the_contract_has(feed: str, old: FeedState, new: FeedState) -> None:
    cause = {"sourceId": "s", "trigger": "fetch", "computeMs": 0.5, "waitedMs": 2, "merged": 1}
    delta = diff(old, new)
    message = parse(encoding.delta_message(feed, "old", "new", START, delta, context=True, cause=cause))
    assert isinstance(message, Notification)
    assert message.method == "feed.delta"
    assert (message.params["base"], message.params["cursor"]) == ("old", "new")
    assert message.params["cause"] == cause
    present = {"put", "move", "remove", "groups", "errors", "pending", "context"} & set(message.params)
    assert present == {
        name
        for name, value in (
            ("put", delta.put or None),
            ("move", delta.move or None),
            ("remove", delta.remove or None),
            ("groups", delta.groups),
            ("errors", delta.errors),
            ("pending", delta.pending),
            ("context", delta.context),
        )
        if value is not None
    }
    if feed:
        FeedDelta.read(message.params)


def test_context_goes_only_to_whoever_asked_for_it() -> None:
    snapshot = encoding.snapshot_result("alice", "c", START, CONTEXT, context=False)
    delta = diff(FeedState.EMPTY, CONTEXT)
    message = encoding.delta_message("alice", "b", "c", START, delta, context=False, cause=None)
    assert b"context" not in snapshot + message
    assert b'"context":[{"key":["s"],"value":1}]' in encoding.snapshot_result(
        "alice", "c", START, CONTEXT, context=True
    )


def test_an_items_own_bytes_are_what_is_sent() -> None:
    item = make_item("a")
    state = FeedState((item,))
    delta = diff(FeedState.EMPTY, state)
    for message in (
        encoding.snapshot_message("alice", "c", START, state, context=False),
        encoding.delta_message("alice", "b", "c", START, delta, context=False, cause=None),
    ):
        assert item.encoded in message


@given(texts, json_values)
def test_requests_answers_and_notifications_are_read_back_as_they_were(method: str, value: JsonValue) -> None:
    params = {"x": value}
    assert parse(encoding.notification(method, params)) == Notification(method, params)
    assert parse(encoding.request(7, method, orjson.dumps(params))) == Request(7, method, params)
    assert parse(encoding.response("id", value)) == Response("id", value)


def test_a_result_that_is_bytes_already_is_put_in_as_it_is() -> None:
    assert encoding.response(1, b'{"a" : 1}') == b'{"jsonrpc":"2.0","id":1,"result":{"a" : 1}}'


@pytest.mark.parametrize("request_id", [None, 0, "x"])
def test_an_error_answer_carries_code_message_and_data(request_id: int | str | None) -> None:
    answer = parse(encoding.error_response(request_id, InternalError("e-1")))
    assert isinstance(answer, Response)
    assert answer.id == request_id
    assert answer.error == {
        "code": -32603,
        "message": InternalError.title,
        "data": {"errorId": "e-1", "temporary": False},
    }
    assert encoding.error_response(None, ParseError()).startswith(b'{"jsonrpc":"2.0","id":null,')
