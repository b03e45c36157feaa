from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from protocol.client.view import FeedView
from protocol.closing import NextStep
from protocol.delta import diff
from protocol.errors import error_from_wire
from protocol.feed import ContextEntry, FeedItem, FeedState, Group, SourceError
from protocol.frozen import JsonObject
from protocol.reconnect import End, ReconnectPolicy
from tests.conformance.vectors import cases

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACTIONS = {
    NextStep.RECONNECT: "reconnect",
    NextStep.NEW_TOKEN: "renew",
    NextStep.SIGN_IN: "signIn",
    NextStep.STOP: "stop",
}


def shown(view: FeedView, member: str) -> object:
    state = view.state
    assert state is not None
    match member:
        case "cursor":
            return view.cursor
        case "items":
            return list(state.items)
        case "ids":
            return [item.id for item in state.items]
        case "groups":
            return list(state.groups)
        case "errors":
            return list(state.errors)
        case "pending":
            return list(state.pending)
        case "context":
            return sorted((entry.key_bytes, entry.value) for entry in state.context)
        case other:
            raise AssertionError(f"vectors say nothing of {other}")


def expected(member: str, value: Any) -> object:
    match member:
        case "items":
            return [FeedItem.from_wire(item) for item in value]
        case "groups":
            return [Group.from_wire(group) for group in value]
        case "errors":
            return [SourceError.from_wire(error) for error in value]
        case "context":
            entries = [ContextEntry.from_wire(entry) for entry in value]
            return sorted((entry.key_bytes, entry.value) for entry in entries)
        case _:
            return value


@cases("feed.json")
def test_a_delta_leads_to_the_state_it_names(case: dict[str, Any]) -> None:
    view = FeedView("alice", lambda: NOW)
    view.take_snapshot(case["state"])
    taken = view.take_delta(case["delta"])
    if case["expect"] == "mismatch":
        assert not taken
        assert not view.is_synced
        return
    assert taken
    for member, value in case["expect"].items():
        assert shown(view, member) == expected(member, value)


@cases("conflation.json")
def test_a_connection_that_missed_revisions_gets_one_delta(case: dict[str, Any]) -> None:
    revisions: list[list[JsonObject]] = case["states"]
    states = [FeedState(tuple([FeedItem.from_wire(item) for item in items])) for items in revisions]
    delta = diff(states[int(case["got"])], states[-1])
    told = {
        "put": [{"index": index, "item": item} for index, item in delta.put],
        "move": [{"index": index, "id": item_id} for index, item_id in delta.move],
        "remove": list(delta.remove),
    }
    wanted = {name: case["delta"].get(name, []) for name in told}
    wanted["put"] = [
        {"index": entry["index"], "item": FeedItem.from_wire(entry["item"])} for entry in wanted["put"]
    ]
    assert told == wanted


@cases("close_codes.json")
def test_an_end_leads_to_the_advice_of_the_table(case: dict[str, Any]) -> None:
    policy = ReconnectPolicy(lambda: case["random"])
    for end in case["ends"]:
        decision = policy.ended(End(end["code"], end["reason"]), lived_s=0.0)
        advised = {"action": ACTIONS[decision.step], "delayMs": round(decision.delay_s * 1000)}
        assert advised == end["expect"]


@cases("error_objects.json")
def test_an_error_of_any_code_is_understood(case: dict[str, Any]) -> None:
    error = error_from_wire(case["error"])
    assert (error.code, error.temporary) == (case["error"]["code"], case["temporary"])
    assert error.wire()["data"] == case["error"]["data"]
