from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidParams
from protocol.frozen import JsonObject, JsonValue, freeze
from protocol.messages import METHODS, NOTIFICATIONS, Params, WireModel
from protocol.messages.item import ItemPublishParams
from protocol.messages.objects import SourceState
from tests.protocol.strategies import json_values

TIME = "2026-03-02T09:00:00Z"
ITEM: JsonObject = {
    "id": "s/a",
    "sourceId": "s",
    "type": "t",
    "timestamp": TIME,
    "data": {"x": [1, None]},
    "signals": {"urgency": 0.5, "timeRelevance": "imminent"},
    "ui": {"kind": "card"},
    "expiresAt": TIME,
}
ERROR: JsonObject = {"sourceId": "s", "code": "limit", "message": "m", "since": TIME, "retryAt": TIME}
ENTRY: JsonObject = {"key": ["s", 1, {"a": None}], "value": [1]}
SNAPSHOT: JsonObject = {
    "feed": "alice",
    "cursor": "cur",
    "at": TIME,
    "items": [ITEM],
    "groups": [{"itemIds": ["s/a"], "summary": "one"}],
    "errors": [ERROR],
    "pending": ["s"],
    "context": [ENTRY],
}
CAUSE: JsonObject = {"sourceId": "s", "trigger": "fetch", "computeMs": 0.5, "waitedMs": 1.5, "merged": 2}
STATE: JsonObject = {
    "sourceId": "s",
    "name": "Source",
    "enabled": True,
    "version": 3,
    "config": {"a": None},
    "hasCredentials": False,
    "status": "failing",
    "error": ERROR,
    "blockedBy": "r",
    "lastOkAt": TIME,
    "schemaDigest": "d",
    "configSchema": {"type": "object"},
    "credentialSchema": {"type": "object"},
    "actions": [{"id": "a", "label": "A", "description": "d", "inputSchema": {}}],
}
RESUME: JsonObject = {"outcome": "delta", "at": TIME}
LIMITS: JsonObject = {
    "maxMessageBytes": 65536,
    "maxFrameBytes": 786432,
    "requestsPerS": 20.0,
    "burst": 40,
    "concurrent": 16,
    "subscriptions": 64,
    "items": 2000,
}
NOTHING: JsonObject = {}
SETTINGS: JsonObject = {
    "sourceId": "s",
    "user": "bob",
    "enabled": False,
    "config": {"a": None, "b": [1.5]},
    "credentials": {"password": "p"},
    "ifVersion": 0,
    "verify": True,
}

# What goes over the wire for each method, every member present: params, then result.
METHOD_SAMPLES: dict[str, tuple[JsonObject, JsonObject]] = {
    "feed.get": ({"feed": "bob"}, SNAPSHOT),
    "feed.refresh": ({}, {"cursor": "cur"}),
    "feed.subscribe": (
        {"feeds": [{"feed": "bob", "since": "cur", "minIntervalMs": 60000}, {"feed": "eve"}]},
        {"feeds": [{"feed": "bob", "cursor": "cur"}, {"feed": "eve", "error": {"code": -32011}}]},
    ),
    "feed.unsubscribe": ({"feeds": ["bob"]}, NOTHING),
    "feed.ack": ({"feed": "alice", "cursor": "cur"}, NOTHING),
    "source.list": ({"schemas": True, "user": "bob"}, {"sources": [STATE]}),
    "source.get": ({"sourceId": "s", "schemas": True, "user": "bob"}, STATE),
    "source.patch": (SETTINGS, STATE),
    "source.put": (SETTINGS, STATE),
    "source.authorize": ({"sourceId": "s", "credentials": {"password": "p"}, "user": "bob"}, STATE),
    "source.delete": ({"sourceId": "s", "user": "bob"}, NOTHING),
    "source.preview": (
        {"sourceId": "s", "config": {}, "credentials": {}, "user": "bob"},
        {"items": [ITEM], "errors": [ERROR]},
    ),
    "action.execute": (
        {"sourceId": "s", "actionId": "a", "params": ["x"], "key": "7f1c6a52-9c3e-4e0a-9d51-0f2b5c7d8e9f"},
        {"result": None},
    ),
    "item.publish": (
        {
            "feeds": ["alice", "bob"],
            "items": [
                {
                    "id": "a",
                    "type": "t",
                    "data": {"x": 1},
                    "timestamp": TIME,
                    "expiresAt": TIME,
                    "signals": {"urgency": 1.0, "timeRelevance": "ambient"},
                    "slots": {"x": {"description": "d", "content": "c"}},
                    "ui": [1],
                }
            ],
        },
        {"accepted": 2, "reachable": {"alice": 1, "bob": 0}},
    ),
    "item.retract": ({"feed": "alice", "ids": ["a"]}, {"removed": 1}),
    "item.dismiss": ({"id": "s/a"}, NOTHING),
    "connection.renew": ({"token": "a.b.c"}, {"expiresAt": TIME}),
    "connection.info": (
        {},
        {
            "user": "alice",
            "scopes": ["admin"],
            "replica": "r1",
            "server": "0.1.0",
            "connectedAt": TIME,
            "subscriptions": [{"feed": "alice", "cursor": "cur", "acked": "cur", "minIntervalMs": 0}],
            "lag": {"behindMs": 0, "bufferedBytes": 0},
            "lastResume": RESUME,
        },
    ),
    "connection.ping": ({}, {"at": TIME}),
    "connection.background": ({"keepMs": 1_800_000}, NOTHING),
    "connection.foreground": ({}, NOTHING),
    "user.inspect": (
        {"user": "bob"},
        {
            "replicas": [
                {
                    "replica": "r1",
                    "connections": [
                        {
                            "connection": "c1",
                            "client": "phone",
                            "since": TIME,
                            "background": False,
                            "writable": True,
                            "sent": "cur",
                            "acked": "cur",
                            "bufferedBytes": 0,
                            "lastResume": RESUME,
                        }
                    ],
                    "closes": [{"at": TIME, "code": 1006, "reason": "", "client": "phone"}],
                    "sources": [STATE],
                    "causes": [CAUSE],
                }
            ],
            "unreachable": ["r2"],
        },
    ),
    "user.revoke": ({"user": "bob", "issuedBefore": TIME}, {"closed": 1}),
    "user.delete": ({"user": "bob"}, NOTHING),
    "provider.list": (
        {},
        {
            "providers": [
                {"sourceId": "s", "name": "S", "settings": "stored", "version": 1, "settingsSchema": {}}
            ]
        },
    ),
    "provider.replace": ({"sourceId": "s", "settings": {"key": "k"}}, {"refreshed": 2, "kept": 0}),
    "stats.subscribe": ({"everyMs": 250}, NOTHING),
    "stats.unsubscribe": ({}, NOTHING),
}

NOTIFICATION_SAMPLES: dict[str, JsonObject] = {
    "connection.welcome": {
        "server": "0.1.0",
        "protocol": 1,
        "schemaDigest": "d",
        "replica": "r1",
        "connection": "c1",
        "user": "alice",
        "now": TIME,
        "expiresAt": TIME,
        "heartbeatMs": 25000,
        "ackEveryMs": 1000,
        "limits": LIMITS,
    },
    "connection.beat": {"at": TIME, "degraded": ["bus"]},
    "connection.expiring": {"inMs": 60000},
    "server.draining": {"reconnectInMs": 500},
    "server.status": {"degraded": ["bus"], "since": TIME},
    "feed.snapshot": SNAPSHOT,
    "feed.delta": {
        "feed": "alice",
        "base": "old",
        "cursor": "new",
        "at": TIME,
        "put": [{"index": 0, "item": ITEM}],
        "move": [{"index": 1, "id": "s/b"}],
        "remove": ["s/c"],
        "groups": [],
        "errors": [ERROR],
        "pending": [],
        "context": {"set": [ENTRY], "unset": [["s", {"a": 1}]]},
        "cause": CAUSE,
    },
    "feed.closed": {"feed": "bob", "reason": "scope"},
    "source.changed": {"source": STATE},
    "stats.update": {"at": TIME, "replicas": 1, "connections": 2, "sessions": 3, "busLagMs": 0.5},
}


def wire_models() -> Iterator[tuple[str, type[WireModel], JsonObject]]:
    for name, method in METHODS.items():
        params, result = METHOD_SAMPLES[name]
        yield f"{name} params", method.params, params
        yield f"{name} result", method.result, result
    for name, notice in NOTIFICATIONS.items():
        yield name, notice.params, NOTIFICATION_SAMPLES[name]


WIRE = list(wire_models())
PARAMS = [pytest.param(method.params, METHOD_SAMPLES[name][0], id=name) for name, method in METHODS.items()]


def paths(wrong: InvalidParams) -> set[str]:
    return {".".join(map(str, issue.path)) for issue in wrong.issues}


def test_every_method_and_notification_of_the_protocol_is_there() -> None:
    assert list(METHODS) == [method.name for method in METHODS.values()]
    assert set(METHODS) == set(METHOD_SAMPLES)
    assert set(NOTIFICATIONS) == set(NOTIFICATION_SAMPLES)
    assert len(METHODS) == 28


@pytest.mark.parametrize(("model", "wire"), [pytest.param(*case[1:], id=case[0]) for case in WIRE])
def test_every_message_goes_out_as_it_came_in(model: type[WireModel], wire: JsonObject) -> None:
    read = model.read(wire)
    assert orjson.loads(read.encode()) == wire
    assert model.read(orjson.loads(read.encode())) == read
    assert model.read(freeze(wire)) == read


@pytest.mark.parametrize(("params", "wire"), PARAMS)
def test_params_refuse_a_member_they_do_not_know(params: type[Params], wire: JsonObject) -> None:
    with pytest.raises(InvalidParams) as refused:
        params.read({**wire, "enabeld": True})
    assert paths(refused.value) == {"enabeld"}


@pytest.mark.parametrize(
    ("model", "wire"),
    [pytest.param(*case[1:], id=case[0]) for case in WIRE if not case[0].endswith("params")],
)
def test_a_client_passes_over_members_it_does_not_know(model: type[WireModel], wire: JsonObject) -> None:
    if model is not NOTIFICATIONS["stats.update"].params:
        assert model.read({**wire, "new": 1}) == model.read(wire)


def test_a_client_passes_over_words_it_does_not_know() -> None:
    assert SourceState.read({**STATE, "status": "hibernating"}).status == "hibernating"


@given(st.sampled_from(sorted(METHODS)), st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_any_params_at_all_are_read_or_refused_with_their_paths(
    name: str, params: dict[str, JsonValue]
) -> None:
    method = METHODS[name]
    known = {info.alias or field for field, info in method.params.model_fields.items()}
    for odd in (params, dict(zip(sorted(known), params.values(), strict=False))):
        try:
            read = method.params.read(odd)
        except InvalidParams as refused:
            orjson.dumps(refused.wire())
        else:
            orjson.loads(read.encode())


MISTAKES: list[tuple[str, JsonObject, str]] = [
    ("source.patch", {}, "sourceId"),
    ("source.patch", {"sourceId": "s", "enabled": "yes"}, "enabled"),
    ("source.patch", {"sourceId": "s", "ifVersion": 1.0}, "ifVersion"),
    ("source.patch", {"sourceId": "s", "ifVersion": True}, "ifVersion"),
    ("source.patch", {"sourceId": "s", "ifVersion": -1}, "ifVersion"),
    ("source.patch", {"sourceId": "s", "config": []}, "config"),
    ("source.put", {"sourceId": "s"}, "enabled"),
    ("source.authorize", {"sourceId": "s"}, "credentials"),
    ("feed.get", {"feed": ""}, "feed"),
    ("feed.get", {"feed": "x" * 257}, "feed"),
    ("feed.subscribe", {"feeds": []}, "feeds"),
    (
        "feed.subscribe",
        {"feeds": [{"feed": "a"}, {"feed": "b", "since": "not a cursor"}]},
        "feeds.1.since",
    ),
    ("feed.subscribe", {"feeds": [{"feed": "a", "minIntervalMs": 60_001}]}, "feeds.0.minIntervalMs"),
    ("item.publish", {"items": [{"id": "a", "type": "t", "data": {}}]}, ""),
    ("item.publish", {"feed": "a", "feeds": ["b"], "items": [{"id": "a", "type": "t", "data": {}}]}, ""),
    ("item.publish", {"feeds": ["a"] * 501, "items": [{"id": "a", "type": "t", "data": {}}]}, "feeds"),
    ("item.publish", {"feed": "a", "items": []}, "items"),
    ("item.publish", {"feed": "a", "items": [{"id": "a", "type": "t", "data": {}}] * 101}, "items"),
    ("item.publish", {"feed": "a", "items": [{"id": "a", "type": "t"}]}, "items.0.data"),
    (
        "item.publish",
        {"feed": "a", "items": [{"id": "a", "type": "t", "data": {}, "signals": {"urgency": 2}}]},
        "items.0.signals.urgency",
    ),
    (
        "item.publish",
        {"feed": "a", "items": [{"id": "a", "type": "t", "data": {}, "timestamp": "2026-03-02"}]},
        "items.0.timestamp",
    ),
    ("action.execute", {"sourceId": "s", "actionId": "a", "key": "no spaces"}, "key"),
    ("connection.background", {"keepMs": 1_800_001}, "keepMs"),
    ("connection.renew", {"token": "x" * 6145}, "token"),
    ("stats.subscribe", {"everyMs": 10}, "everyMs"),
    ("user.revoke", {"user": "a", "issuedBefore": 5}, "issuedBefore"),
]


@pytest.mark.parametrize(("method", "params", "path"), MISTAKES)
def test_a_mistake_in_params_is_told_with_its_path_and_without_the_value(
    method: str, params: JsonObject, path: str
) -> None:
    with pytest.raises(InvalidParams) as refused:
        METHODS[method].params.read(params)
    assert paths(refused.value) == {path}
    assert all(issue.message for issue in refused.value.issues)


def test_credentials_never_show_in_the_error_about_them() -> None:
    with pytest.raises(InvalidParams) as refused:
        METHODS["source.authorize"].params.read({"sourceId": "s", "credentials": "hunter2"})
    assert "hunter2" not in str(refused.value.wire()) + str(refused.value) + repr(refused.value)


def test_each_feed_is_published_to_once() -> None:
    params: JsonObject = {"feeds": ["b", "a", "b"], "items": [{"id": "a", "type": "t", "data": {}}]}
    assert ItemPublishParams.read(params).targets == ("b", "a")


def test_what_is_not_given_is_not_there_and_what_is_read_is_frozen() -> None:
    params = METHODS["source.patch"].params.read({"sourceId": "s", "config": {"a": {"b": None}}})
    assert orjson.loads(params.encode()) == {"sourceId": "s", "config": {"a": {"b": None}}, "verify": False}
    with pytest.raises(TypeError):
        getattr(params, "config")["a"]["b"] = 1  # noqa: B009 -- the method's own model, not named here


def test_writing_methods_and_scopes_are_those_of_the_protocol() -> None:
    assert {name for name, method in METHODS.items() if method.writes} == {
        *("source.patch", "source.put", "source.authorize", "source.delete", "action.execute"),
        *("item.publish", "item.retract", "item.dismiss"),
        *("user.revoke", "user.delete", "provider.replace"),
    }
    by_scope = {
        scope: {name for name, method in METHODS.items() if method.scope == scope}
        for scope in ("feed:watch", "item:publish", "admin", None)
    }
    assert by_scope == {
        "feed:watch": {"feed.subscribe"},
        "item:publish": {"item.publish", "item.retract"},
        "admin": {name for name in METHODS if name.split(".")[0] in ("user", "provider", "stats")},
        None: {"feed.unsubscribe", "feed.ack"} | {name for name in METHODS if name.startswith("connection.")},
    }
    assert METHODS["feed.get"].other_scope == "feed:watch"
    assert all(
        method.other_scope == "admin" for name, method in METHODS.items() if name.startswith("source.")
    )
    assert [name for name, method in METHODS.items() if method.notification] == ["feed.ack"]
    assert {name for name, notice in NOTIFICATIONS.items() if notice.scope == "admin"} == {
        "server.status",
        "stats.update",
    }
