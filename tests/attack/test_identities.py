"""Being somebody else: forged tokens at every door, and a user who tries every method on another."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from protocol.messages import METHODS
from tests.push.board import BOARD
from tests.push.conftest import BOB, KEYS, Server
from tests.push.peers import Peer, open_peer

CALM = "?own=0"


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def _signed(header: object, claims: object, secret: bytes) -> str:
    text = f"{_part(header)}.{_part(claims)}"
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def forgeries(server: Server) -> Mapping[str, str]:
    """Tokens that say they are bob the operator's, each by another trick."""
    now = int(server.clock.now().timestamp())
    claims = {"sub": "bob", "iat": now, "exp": now + 3600, "scope": "admin"}
    kid = next(iter(KEYS)).kid
    good = server.token("alice")
    head, _, signature = good.split(".")
    return {
        "no algorithm": f"{_part({'alg': 'none', 'kid': kid})}.{_part(claims)}.",
        "no algorithm, a signature": f"{_part({'alg': 'none'})}.{_part(claims)}.{signature}",
        "an empty secret": _signed({"alg": "HS256", "kid": kid}, claims, b""),
        "the name of the key as its secret": _signed({"alg": "HS256", "kid": kid}, claims, kid.encode()),
        "a key of a file": _signed({"alg": "HS256", "kid": "../../../dev/null"}, claims, b""),
        "a key of a query": _signed({"alg": "HS256", "kid": "x' UNION SELECT 'a"}, claims, b"a"),
        "a key in the header": _signed(
            {"alg": "HS256", "jwk": {"kty": "oct", "k": "YQ"}, "kid": "mine"}, claims, b"a"
        ),
        "another algorithm for the key": _signed({"alg": "RS256", "kid": kid}, claims, b"a"),
        "somebody else's signature": f"{head}.{_part(claims)}.{signature}",
        "no signature": f"{head}.{_part(claims)}.",
        "two tokens in one": f"{good}.{good}",
        "nothing between the dots": "..",
    }


NAMES = (
    "no algorithm",
    "no algorithm, a signature",
    "an empty secret",
    "the name of the key as its secret",
    "a key of a file",
    "a key of a query",
    "a key in the header",
    "another algorithm for the key",
    "somebody else's signature",
    "no signature",
    "two tokens in one",
    "nothing between the dots",
)


async def _as_header(server: Server, token: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await connect(
            f"ws://{server.address}/v1/feed",
            subprotocols=[Subprotocol("freya.v1")],
            additional_headers={"Authorization": f"Bearer {token}"},
        )
    return caught.value.response.status_code


async def _as_subprotocol(server: Server, token: str) -> int | None:
    offered = [Subprotocol("freya.v1"), Subprotocol(f"bearer.{token}")]
    async with connect(f"ws://{server.address}/v1/feed", subprotocols=offered) as ws:
        with pytest.raises(ConnectionClosed) as caught:
            await ws.recv()
    return caught.value.rcvd.code if caught.value.rcvd else None


async def test_a_forged_token_opens_no_door(server: Server) -> None:
    made = forgeries(server)
    assert tuple(made) == NAMES
    for token in made.values():
        assert await _as_header(server, token) == 401
        assert await _as_subprotocol(server, token) == 4401
    assert server.manager.live(BOB) is None


async def test_a_forged_token_renews_nothing(server: Server) -> None:
    async with open_peer(server.address, server.token("alice", "feed:watch"), query=CALM) as peer:
        for token in forgeries(server).values():
            error = await peer.fail("connection.renew", {"token": token})
            assert (error["code"], token in str(error)) == (-32014, False)
        info = await peer.call("connection.info")
        assert (info["user"], info["scopes"]) == ("alice", ["feed:watch"])


async def test_a_good_token_of_somebody_else_renews_nothing(server: Server) -> None:
    async with open_peer(server.address, server.token("alice"), query=CALM) as peer:
        assert (await peer.fail("connection.renew", {"token": server.token("bob", "admin")}))[
            "code"
        ] == -32014
        assert (await peer.call("connection.info"))["user"] == "alice"
        assert (await peer.fail("provider.list"))["code"] == -32008


async def test_a_token_in_the_address_is_not_taken(server: Server) -> None:
    for name in ("token", "access_token", "authorization", "bearer", "jwt"):
        with pytest.raises(InvalidStatus) as caught:
            await connect(
                f"ws://{server.address}/v1/feed?{name}={server.token()}",
                subprotocols=[Subprotocol("freya.v1")],
            )
        assert caught.value.response.status_code == 401


ITEM = {"id": "1", "type": "note", "data": {"text": "planted"}}

# Each method aimed at a user in every way that its params allow, and in some that they do not.
AIMED: Mapping[str, list[dict[str, object]]] = {
    "feed.get": [{"feed": "bob"}, {"user": "bob"}],
    "feed.refresh": [{"feed": "bob"}, {"user": "bob"}],
    "feed.subscribe": [{"feeds": [{"feed": "bob"}]}],
    "feed.unsubscribe": [{"feeds": ["bob"]}],
    "feed.ack": [{"feed": "bob", "cursor": "abc"}],
    "source.list": [{"user": "bob"}, {"user": "bob", "schemas": True}],
    "source.get": [{"sourceId": BOARD, "user": "bob"}],
    "source.patch": [{"sourceId": BOARD, "user": "bob", "enabled": False}],
    "source.put": [{"sourceId": BOARD, "user": "bob", "enabled": False}],
    "source.authorize": [{"sourceId": BOARD, "user": "bob", "credentials": {}}],
    "source.delete": [{"sourceId": BOARD, "user": "bob"}],
    "source.preview": [{"sourceId": BOARD, "user": "bob"}],
    "action.execute": [
        {"sourceId": BOARD, "actionId": "say", "user": "bob", "params": {"text": "x"}},
        {"sourceId": f"bob/{BOARD}", "actionId": "say", "params": {"text": "x"}},
    ],
    "item.publish": [{"feed": "bob", "items": [ITEM]}, {"feeds": ["alice", "bob"], "items": [ITEM]}],
    "item.retract": [{"feed": "bob", "ids": ["a"]}, {"feeds": ["bob"], "ids": ["a"]}],
    "item.dismiss": [{"id": f"{BOARD}/a"}, {"id": f"bob/{BOARD}/a"}, {"id": f"{BOARD}/a", "user": "bob"}],
    "connection.renew": [{"token": "x", "user": "bob"}],
    "connection.info": [{"user": "bob"}],
    "connection.ping": [{"user": "bob"}],
    "connection.background": [{"user": "bob"}],
    "connection.foreground": [{"user": "bob"}],
    "user.inspect": [{"user": "bob"}],
    "user.revoke": [{"user": "bob"}],
    "user.delete": [{"user": "bob"}],
    "provider.list": [{}, {"user": "bob"}],
    "provider.replace": [{"sourceId": BOARD, "settings": {}}],
    "stats.subscribe": [{}],
    "stats.unsubscribe": [{}],
}

# What a user without scopes may say with bob's name in it: it touches only what is her own.
HARMLESS = {"feed.unsubscribe", "feed.ack", "item.dismiss"}


def test_every_method_is_tried() -> None:
    assert AIMED.keys() == METHODS.keys()


async def _all_of(peer: Peer) -> object:
    return [await peer.call("source.get", {"sourceId": BOARD}), (await peer.call("feed.get"))["items"]]


@pytest.mark.parametrize(
    "scopes", [(), ("item:publish", "feed:watch", "feed:context")], ids=["none", "narrowed"]
)
async def test_no_method_reaches_another_user(server: Server, scopes: tuple[str, ...]) -> None:
    """Without scopes, and with all but the operators' narrowed to feeds that bob's is none of."""
    server.board.show(BOB, a="a secret of bob's")
    token = server.token("alice", *scopes, feeds=["carol", "alice"] if scopes else None)
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, token) as alice,
    ):
        await bob.next("feed.snapshot")
        await alice.next("feed.snapshot")
        before = await _all_of(bob)
        for name, attempts in AIMED.items():
            for params in attempts:
                reply = await alice.request(name, params)
                assert "secret of bob" not in str(reply), name
                if name == "feed.subscribe":
                    told = reply.get("result", {}).get("feeds", [])
                    assert "error" in reply or told[0]["error"]["code"] == -32008
                elif name not in HARMLESS:
                    assert reply["error"]["code"] in {-32008, -32602, -32001, -32014}, (name, reply)
        assert await _all_of(bob) == before
        assert "secret of bob" not in str(alice.unread)
        assert server.board.said == []
        assert {connection.user for connection in server.gateway.registry} == {"alice", "bob"}


async def test_who_may_not_look_does_not_learn_who_exists(server: Server) -> None:
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice"), query=CALM) as alice,
    ):
        await bob.next("feed.snapshot")
        for name in ("feed.get", "source.list", "source.get", "source.patch", "item.publish", "user.inspect"):
            for params in AIMED[name]:
                if "feeds" not in params:
                    unknown = {key: "nobody" if value == "bob" else value for key, value in params.items()}
                    assert await alice.fail(name, params) == await alice.fail(name, unknown)
