"""Messages made to hurt: bombs, depths, text that is none. Who sends them is refused; nobody else notices."""

from __future__ import annotations

import struct
import zlib

import anyio
import pytest

from server.push import PushOptions
from tests.push.board import BOARD
from tests.push.conftest import Server, World
from tests.push.peers import RawPeer, masked, open_peer, open_raw

CALM = "?own=0"
DEFLATE = (
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
)


def deflated(data: bytes) -> bytes:
    """As one message of permessage-deflate."""
    encoder = zlib.compressobj(level=9, wbits=-15)
    return (encoder.compress(data) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


def request(method: bytes, params: bytes, id_: bytes = b"1") -> bytes:
    """A frame with a request, put together by hand: no encoder would write some of these."""
    return masked(b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (id_, method, params))


async def error_code(peer: RawPeer) -> int:
    """The code of the next reply, which is an error that gives nothing away."""
    reply = await peer.message()
    assert "Traceback" not in str(reply)
    return int(reply["error"]["code"])


async def flood(peer: RawPeer, data: bytes) -> None:
    """Sends until the other end has had enough."""
    while True:
        await peer.send(data)
        await anyio.lowlevel.checkpoint()


async def test_a_deflate_bomb_ends_its_own_connection_alone(server: Server) -> None:
    bomb = deflated(b"\0" * 40_000_000)
    assert len(bomb) < 65_536
    async with (
        open_peer(server.address, server.token("bob"), query=CALM) as bob,
        open_raw(server.address, server.token(), query=CALM, headers=DEFLATE) as peer,
    ):
        await peer.until("connection.welcome")
        await peer.send(masked(bomb, rsv1=True))
        assert (await peer.close_frame())[0] == 1009
        await bob.call("connection.ping")


async def test_what_is_compressed_without_an_agreement_breaks_the_framing(server: Server) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(masked(deflated(b"{}"), rsv1=True))
        assert (await peer.close_frame())[0] == 1002


async def test_compressed_rubbish_ends_its_own_connection_alone(server: Server) -> None:
    async with open_raw(server.address, server.token(), query=CALM, headers=DEFLATE) as peer:
        await peer.until("connection.welcome")
        await peer.send(masked(b"\xff" * 2_000, rsv1=True))
        assert (await peer.close_frame())[0] in {1002, 1007}
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        await peer.call("connection.ping")


_DEEP = 30_000


@pytest.mark.parametrize(
    ("payload", "codes"),
    [
        (b"[" * _DEEP + b"]" * _DEEP, {-32700, -32600}),
        (b"[" * 65_000, {-32700}),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, {-32700, -32600}),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":'
            + b'{"a":' * 900
            + b"1"
            + b"}" * 901,
            {-32602},
        ),
        (b'{"jsonrpc":"2.0","id":' + b"[" * 900 + b"]" * 900 + b',"method":"connection.ping"}', {-32600}),
        (b'{"jsonrpc":"2.0","id":1,"method":' + b"[" * 900 + b"]" * 900 + b"}", {-32600}),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"source.patch","params":{"sourceId":"test.board","config":'
            + b'{"title":' * 100
            + b"1"
            + b"}" * 102,
            {-32602},
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":{"n":' + b"9" * 60_000 + b"}}",
            {-32700, -32602},
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 60_000 + b'"}',
            {-32601},
        ),
    ],
    ids=[
        "lists",
        "lists without an end",
        "objects",
        "params",
        "an id",
        "a method",
        "a config",
        "a number of many digits",
        "a name of a method",
    ],
)
async def test_depth_and_length_are_errors_and_the_connection_lives(
    server: Server, payload: bytes, codes: set[int]
) -> None:
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(masked(payload))
        assert await error_code(peer) in codes
        await peer.send(request(b"connection.ping", b"{}", b"7"))
        reply = await peer.message()
        assert (reply["id"], "result" in reply) == (7, True)


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"],
    ids=["no lead", "overlong NUL", "overlong", "overlong slash", "surrogate", "past the end", "cut off"],
)
@pytest.mark.parametrize("place", ["alone", "in a string"])
async def test_text_that_is_not_utf_8_ends_in_1007(server: Server, text: bytes, place: str) -> None:
    payload = text if place == "alone" else b'{"jsonrpc":"2.0","id":"%b","method":"connection.ping"}' % text
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        await peer.until("connection.welcome")
        await peer.send(masked(payload))
        assert (await peer.close_frame())[0] == 1007


@pytest.mark.parametrize("text", [b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\ud83d"])
async def test_escapes_that_stand_for_no_text_are_not_stored(server: Server, text: bytes) -> None:
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        config = b'{"sourceId":"%b","config":{"title":"a%bb"}}' % (BOARD.encode(), text)
        await peer.send(request(b"source.patch", config))
        assert await error_code(peer) in {-32700, -32602, -32002}
        await peer.send(request(b"source.get", b'{"sourceId":"%b"}' % BOARD.encode(), b"2"))
        reply = await peer.message()
        while reply.get("id") != 2:
            reply = await peer.message()
        assert "title" not in reply["result"]["config"] or reply["result"]["config"]["title"] == "board"


async def test_of_a_flood_of_broken_messages_a_handful_is_answered_and_the_rest_not_read(
    world: World,
) -> None:
    server = await world.start(options=PushOptions(max_strikes=20))
    async with (
        open_peer(server.address, server.token("bob"), query=CALM) as bob,
        open_raw(server.address, server.token(), query=CALM) as peer,
    ):
        await peer.until("connection.welcome")
        # A million would do as well: it ends with the connection.
        with pytest.raises(ConnectionError), anyio.fail_after(30):
            await flood(peer, masked(b"nonsense") * 500)
        assert server.gateway.statistics().bad_messages == 21
        await bob.call("connection.ping")


async def test_what_comes_behind_a_close_frame_is_not_done(server: Server) -> None:
    say = request(
        b"action.execute", b'{"sourceId":"%b","actionId":"say","params":{"text":"x"}}' % BOARD.encode()
    )
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        await peer.send(masked(struct.pack("!H", 1000), opcode=8) + say * 50)
        assert (await peer.close_frame())[0] == 1000
        assert await peer.rest() == b""
    assert server.board.said == []


async def test_what_comes_after_the_servers_own_close_is_not_done(server: Server) -> None:
    say = request(
        b"action.execute", b'{"sourceId":"%b","actionId":"say","params":{"text":"x"}}' % BOARD.encode()
    )
    async with open_raw(server.address, server.token()) as peer:
        await peer.until("feed.snapshot")
        [connection] = server.gateway.registry
        connection.close(4403, "revoked")
        await peer.send(say * 50 + masked(struct.pack("!H", 4403), opcode=8))
        assert (await peer.close_frame())[0] == 4403
        assert await peer.rest() == b""
    assert server.board.said == []


async def test_an_id_used_over_and_over_is_answered_once_under_that_id(server: Server) -> None:
    server.board.gate = anyio.Event()
    say = {"sourceId": BOARD, "actionId": "say", "params": {"text": "x"}}
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        await peer.send("action.execute", say, id_="same")
        for _ in range(40):
            await peer.send("action.execute", say, id_="same")
        refused = [await peer.pick(lambda message: "error" in message) for _ in range(40)]
        assert {(reply["id"], reply["error"]["code"]) for reply in refused} == {(None, -32600)}
        server.board.gate.set()
        assert (await peer.reply("same"))["result"] == {"result": {"said": "x"}}
        await peer.call("connection.ping")
        assert [message for message in peer.unread if message.get("id") == "same"] == []
        assert server.board.said == ["x"]


async def test_following_feeds_of_nobody_makes_no_session_and_no_user(server: Server) -> None:
    async with open_peer(server.address, server.token("alice", "feed:watch"), query=CALM) as peer:
        for turn in range(20):
            feeds = [{"feed": f"nobody-{turn}-{number}"} for number in range(64)]
            told = (await peer.call("feed.subscribe", {"feeds": feeds}))["feeds"]
            assert {entry["error"]["code"] for entry in told} == {-32011}
        assert [session.user for session in server.manager.sessions()] == []
        statistics = server.gateway.statistics()
        assert (statistics.subscriptions, statistics.feeds) == (0, 0)


async def test_one_feed_named_many_times_is_followed_once(server: Server) -> None:
    async with (
        open_peer(server.address, server.token("bob")) as bob,
        open_peer(server.address, server.token("alice", "feed:watch"), query=CALM) as peer,
    ):
        await bob.next("feed.snapshot")
        await peer.request("feed.subscribe", {"feeds": [{"feed": "bob"}] * 64})
        for _ in range(20):
            await peer.call("feed.subscribe", {"feeds": [{"feed": "bob"}]})
        assert server.gateway.statistics().subscriptions == 2
        await peer.call("feed.unsubscribe", {"feeds": ["bob"]})
        assert server.gateway.statistics().subscriptions == 1
