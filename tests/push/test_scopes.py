"""Every method: who may call it, what it refuses, and that nobody reaches into somebody else's data."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from protocol.messages import METHODS
from tests.push.board import BOARD
from tests.push.conftest import BOB, Server
from tests.push.peers import open_peer

CALM = "?own=0"
NOTHING: dict[str, object] = {}

# Params that are good for each method, so that what refuses a call is what the test means.
GOOD: Mapping[str, Mapping[str, object]] = {
    "feed.get": NOTHING,
    "feed.refresh": NOTHING,
    "feed.subscribe": {"feeds": [{"feed": "bob"}]},
    "feed.unsubscribe": {"feeds": ["bob"]},
    "feed.ack": {"feed": "alice", "cursor": "abc"},
    "source.list": NOTHING,
    "source.get": {"sourceId": BOARD},
    "source.patch": {"sourceId": BOARD, "config": {"title": "x"}},
    "source.put": {"sourceId": BOARD, "enabled": True},
    "source.authorize": {"sourceId": BOARD, "credentials": NOTHING},
    "source.delete": {"sourceId": BOARD},
    "source.preview": {"sourceId": BOARD},
    "action.execute": {"sourceId": BOARD, "actionId": "say", "params": {"text": "x"}},
    "item.publish": {"feed": "bob", "items": [{"id": "1", "type": "note", "data": NOTHING}]},
    "item.retract": {"feed": "bob", "ids": ["1"]},
    "item.dismiss": {"id": "none"},
    "connection.renew": {"token": "nonsense"},
    "connection.info": NOTHING,
    "connection.ping": NOTHING,
    "connection.background": NOTHING,
    "connection.foreground": NOTHING,
    "user.inspect": {"user": "bob"},
    "user.revoke": {"user": "carol"},
    "user.delete": {"user": "carol"},
    "provider.list": NOTHING,
    "provider.replace": {"sourceId": BOARD, "settings": NOTHING},
    "stats.subscribe": NOTHING,
    "stats.unsubscribe": NOTHING,
}

ALL = ("feed:watch", "feed:context", "item:publish", "admin")


def test_the_list_of_methods_here_is_the_contracts() -> None:
    assert GOOD.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
async def test_a_method_needs_its_scope_and_no_other(server: Server, name: str) -> None:
    needs = METHODS[name].scope
    others = [scope for scope in ALL if scope != needs]
    async with (
        open_peer(server.address, server.token("alice", *others), query=CALM) as without,
        open_peer(server.address, server.token("alice", *ALL), query=CALM) as with_all,
    ):
        reply = await without.request(name, GOOD[name])
        if needs in {None, "own"}:
            assert reply.get("error", {}).get("code") != -32008
        else:
            assert reply["error"]["code"] == -32008
            assert reply["error"]["data"] == {"needs": needs, "temporary": False}
        reply = await with_all.request(name, GOOD[name])
        assert reply.get("error", {}).get("code") not in {-32008, -32601, -32602, -32603} or name in {
            "source.authorize",
            "provider.replace",
        }, reply


@pytest.mark.parametrize("name", METHODS)
async def test_params_that_do_not_fit_are_named_one_by_one(server: Server, name: str) -> None:
    async with open_peer(server.address, server.token("alice", *ALL), query=CALM) as peer:
        error = await peer.fail(name, {**GOOD[name], "surplus": 1})
        assert error["code"] == -32602
        assert ["surplus"] in [issue["path"] for issue in error["data"]["issues"]]
        for key in GOOD[name]:
            error = await peer.fail(name, {**GOOD[name], key: None if key != "params" else 1, "surplus": 1})
            assert error["code"] == -32602


OTHERS: Mapping[str, Mapping[str, object]] = {
    "feed.get": {"feed": "bob"},
    "source.list": {"user": "bob"},
    "source.get": {"sourceId": BOARD, "user": "bob"},
    "source.patch": {"sourceId": BOARD, "user": "bob", "enabled": False},
    "source.put": {"sourceId": BOARD, "user": "bob", "enabled": False},
    "source.authorize": {"sourceId": BOARD, "user": "bob", "credentials": NOTHING},
    "source.delete": {"sourceId": BOARD, "user": "bob"},
    "source.preview": {"sourceId": BOARD, "user": "bob"},
}


@pytest.mark.parametrize("name", OTHERS)
async def test_somebody_else_is_out_of_reach_without_the_scope_for_it(server: Server, name: str) -> None:
    needs = METHODS[name].other_scope
    others = [scope for scope in ALL if scope != needs]
    server.board.show(BOB, a="secret")
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice", *others), query=CALM) as alice,
    ):
        await bob.next("feed.snapshot")
        error = await alice.fail(name, OTHERS[name])
        assert (error["code"], error["data"]["needs"]) == (-32008, needs)
        assert "secret" not in str(error)
        assert (await bob.call("source.get", {"sourceId": BOARD}))["enabled"] is True


@pytest.mark.parametrize("name", OTHERS)
async def test_naming_oneself_needs_no_scope(server: Server, name: str) -> None:
    params = {key: "alice" if key in {"user", "feed"} else value for key, value in OTHERS[name].items()}
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        reply = await peer.request(name, params)
        assert reply.get("error", {}).get("code") != -32008


async def test_a_tokens_patterns_narrow_watching_and_publishing(server: Server) -> None:
    token = server.token("alice", "feed:watch", "item:publish", feeds=["team-*"])
    item = {"id": "1", "type": "note", "data": NOTHING}
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("team-a")) as team,
        open_peer(server.address, token, query=CALM) as peer,
    ):
        await bob.next("feed.snapshot")
        await team.next("feed.snapshot")
        assert (await peer.fail("feed.get", {"feed": "bob"}))["code"] == -32008
        await peer.call("feed.get", {"feed": "team-a"})
        publish = {"feeds": ["team-a", "bob"], "items": [item]}
        assert (await peer.fail("item.publish", publish))["data"]["needs"] == "item:publish"
        await peer.call("item.publish", {"feed": "team-a", "items": [item]})
        subscribe = {"feeds": [{"feed": "bob"}, {"feed": "team-a"}]}
        told = (await peer.call("feed.subscribe", subscribe))["feeds"]
        assert told[0]["error"]["code"] == -32008
        assert "cursor" in told[1]


async def test_a_user_who_does_not_exist_is_no_feed_and_is_not_made(server: Server) -> None:
    async with open_peer(server.address, server.token("alice", "feed:watch"), query=CALM) as peer:
        error = await peer.fail("feed.get", {"feed": "nobody"})
        assert (error["code"], error["data"]["feed"]) == (-32011, "nobody")
        [told] = (await peer.call("feed.subscribe", {"feeds": [{"feed": "nobody"}]}))["feeds"]
        assert told["error"]["code"] == -32011


async def test_an_operator_reads_and_writes_for_a_user(server: Server) -> None:
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice", "admin"), query=CALM) as admin,
    ):
        await bob.next("feed.snapshot")
        state = await admin.call("source.patch", {"sourceId": BOARD, "user": "bob", "enabled": False})
        assert state["enabled"] is False
        while (await bob.next("source.changed"))["source"]["enabled"]:
            pass


async def test_an_item_id_of_another_user_dismisses_nothing(server: Server) -> None:
    server.board.show(BOB, a="one")
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice")) as alice,
    ):
        await bob.next("feed.snapshot")
        await alice.next("feed.snapshot")
        assert await alice.call("item.dismiss", {"id": f"{BOARD}/a"}) == {}
        items = (await bob.call("feed.get"))["items"]
        assert [item["id"] for item in items] == [f"{BOARD}/a"]
