"""Requests: read, limited, ordered, answered exactly once."""

from __future__ import annotations

import anyio
import orjson
import pytest

from server.push import PushOptions
from tests.push.board import BOARD
from tests.push.conftest import Server, World
from tests.push.peers import Peer, masked, open_peer, open_raw
from tests.support.clock import TestClock

CALM = "?own=0"
BEYOND_64_BITS = (
    '{"jsonrpc":"2.0","id":1,"method":"source.patch","params":{"sourceId":"a","config":'
    '{"n":18446744073709551616}}}'
)


async def raw_reply(peer: Peer, text: str) -> dict[str, object]:
    """What comes back for a text that may be anything."""
    await peer.ws.send(text)
    return await peer.pick(lambda message: "method" not in message)


@pytest.mark.parametrize(
    ("text", "code", "id_"),
    [
        ("nonsense", -32700, None),
        ("", -32700, None),
        ("[]", -32600, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"connection.ping"}]', -32600, None),
        ("{}", -32600, None),
        ('{"jsonrpc":"1.0","id":1,"method":"connection.ping"}', -32600, 1),
        ('{"jsonrpc":"2.0","id":null,"method":"connection.ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":1.5,"method":"connection.ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":9007199254740992,"method":"connection.ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":"' + "x" * 129 + '","method":"connection.ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":1}', -32600, 1),
        ('{"jsonrpc":"2.0","id":1,"method":"no.such"}', -32601, 1),
        ('{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":[]}', -32602, 1),
        ('{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":{"x":1}}', -32602, 1),
        ('{"jsonrpc":"2.0","id":1,"method":"source.get","params":{"sourceId":"a\\u0000"}}', -32602, 1),
        (BEYOND_64_BITS, -32602, 1),
        (
            '{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":' + '{"a":' * 200 + "1" + "}" * 201,
            -32602,
            1,
        ),
    ],
)
async def test_a_broken_message_gets_its_error_and_the_connection_lives(
    server: Server, text: str, code: int, id_: object
) -> None:
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        reply = await raw_reply(peer, text)
        error = reply["error"]
        assert isinstance(error, dict)
        assert (error["code"], reply["id"]) == (code, id_)
        assert error["data"]["temporary"] is False
        await peer.call("connection.ping")


async def test_a_binary_message_is_an_error_and_an_empty_one_is_nothing(server: Server) -> None:
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        await peer.ws.send(b"")
        await peer.call("connection.ping")
        assert peer.unread == []
        await peer.ws.send(b"\x00\x01")
        reply = await peer.pick(lambda message: "error" in message)
        assert (reply["error"]["code"], reply["id"]) == (-32700, None)
        await peer.call("connection.ping")


async def test_a_message_without_an_id_is_done_and_not_answered(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        await peer.send("action.execute", {"sourceId": BOARD, "actionId": "say", "params": {"text": "hi"}})
        await peer.call("source.put", {"sourceId": BOARD, "enabled": True})
        assert server.board.said == ["hi"]
        assert [m for m in peer.unread if "method" not in m] == []


async def test_responses_sent_to_us_are_dropped_and_counted(server: Server) -> None:
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        await peer.ws.send('{"jsonrpc":"2.0","id":1,"result":{}}')
        await peer.ws.send('{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"x"}}')
        await peer.call("connection.ping")
        assert peer.unread == []
        assert server.gateway.statistics().stray_responses == 2


async def hang(peer: Peer, id_: object) -> None:
    await peer.send("action.execute", {"sourceId": BOARD, "actionId": "hang"}, id_=id_)


async def test_an_id_in_flight_is_refused_and_the_first_is_still_answered_once(server: Server) -> None:
    server.board.gate = anyio.Event()
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        await peer.send(
            "action.execute", {"sourceId": BOARD, "actionId": "say", "params": {"text": "x"}}, id_="a"
        )
        await peer.send("connection.ping", id_="a")
        refused = await peer.pick(lambda message: "error" in message)
        assert (refused["error"]["code"], refused["id"]) == (-32600, None)
        # An integer and its digits are two ids.
        await peer.send("connection.ping", id_=1)
        assert "result" in await peer.reply(1)
        server.board.gate.set()
        assert (await peer.reply("a"))["result"] == {"result": {"said": "x"}}
        await peer.send("connection.ping", id_="a")
        assert "result" in await peer.reply("a")


async def test_writes_run_in_order_of_arrival_and_reads_beside_them(server: Server) -> None:
    server.board.gate = anyio.Event()
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        for number in range(3):
            say = {"sourceId": BOARD, "actionId": "say", "params": {"text": str(number)}}
            await peer.send("action.execute", say, id_=f"w{number}")
        await peer.call("source.list")
        assert server.board.said == ["0"]
        assert [m.get("id") for m in peer.unread if "method" not in m] == []
        server.board.gate.set()
        for number in range(3):
            await peer.reply(f"w{number}")
        assert server.board.said == ["0", "1", "2"]
        assert [m.get("id") for m in peer.unread if "method" not in m] == []


async def test_a_request_that_takes_too_long_is_told_so(slow_world: World) -> None:
    server = await slow_world.start(options=PushOptions(request_timeout_s=3.0))
    assert isinstance(server.clock, TestClock)
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        await hang(peer, "running")
        await peer.send("source.put", {"sourceId": BOARD, "enabled": False}, id_="waiting")
        await server.board.hanging.wait()
        await server.clock.advance(3.0, quiet_s=0.05)
        running, waiting = await peer.reply("running"), await peer.reply("waiting")
        assert (running["error"]["code"], running["error"]["data"]["outcome"]) == (-32016, "unknown")
        # What never had its turn was not done, and says so.
        assert (waiting["error"]["code"], waiting["error"]["data"]["outcome"]) == (-32016, "none")
        assert waiting["error"]["data"]["temporary"] is True
        assert waiting["error"]["data"]["retryInMs"] > 0
        source = await peer.call("source.get", {"sourceId": BOARD})
        assert source["enabled"] is True


async def test_reading_pauses_while_as_many_requests_run_as_may(world: World) -> None:
    server = await world.start(options=PushOptions(max_concurrent_requests=2))
    server.board.gate = anyio.Event()
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        for number in range(4):
            say = {"sourceId": BOARD, "actionId": "say", "params": {"text": str(number)}}
            await peer.send("action.execute", say, id_=number)
        await peer.send("connection.ping", id_="ping")
        while server.gateway.statistics().requests_running < 2:
            await anyio.lowlevel.checkpoint()
        server.board.gate.set()
        for number in range(4):
            await peer.reply(number)
        await peer.reply("ping")
        assert server.board.said == ["0", "1", "2", "3"]
    assert server.gateway.statistics().limits["concurrent_requests"] >= 1


async def test_requests_past_the_rate_are_refused_and_then_the_connection_closes(slow_world: World) -> None:
    options = PushOptions(requests_per_s=1.0, request_burst=3, max_refusals=3)
    server = await slow_world.start(options=options)
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        for _ in range(3):
            await peer.call("connection.ping")
        error = await peer.fail("connection.ping")
        assert error["code"] == -32009
        assert error["data"] == {"temporary": True, "retryInMs": 1000}
        assert isinstance(server.clock, TestClock)
        await server.clock.advance(1.0, quiet_s=0.01)
        await peer.call("connection.ping")
        for number in range(4):
            await peer.send("connection.ping", id_=f"x{number}")
        close = await peer.closed()
        assert (close.code, close.reason.startswith("retryInMs=")) == (4429, True)
    # One refused, then four, of which the last ended it.
    assert server.gateway.statistics().limits == {"requests_per_s": 5}


async def test_broken_messages_over_and_over_end_in_4400(world: World) -> None:
    server = await world.start(options=PushOptions(max_strikes=3))
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        for _ in range(2):
            for _ in range(3):
                await peer.ws.send("nonsense")
            await peer.call("connection.ping")
        for _ in range(4):
            await peer.ws.send("nonsense")
        assert (await peer.closed()).code == 4400


async def test_replies_that_cannot_be_written_pause_the_reading(world: World) -> None:
    """A client that asks and asks and never reads: what waits for it is bounded."""
    options = PushOptions(
        requests_per_s=1e6,
        request_burst=1_000_000,
        max_waiting_replies=8,
        frames_per_s=1e6,
        frame_burst=10**6,
    )
    server = await world.start(options=options)
    listing = masked(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "source.list"}))
    async with open_raw(server.address, server.token(), query=CALM) as peer:
        [connection] = server.gateway.registry
        with anyio.move_on_after(30):
            while connection.writable or connection.may_receive:
                await peer.send(listing * 20)
                await anyio.lowlevel.checkpoint()
        assert not connection.may_receive
        sent = server.gateway.statistics()
        assert sent.buffered_bytes < 2 * 64 * 1024
        await peer.until("connection.welcome")


async def test_a_fault_of_ours_is_an_error_with_an_id_and_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> object:
        raise RuntimeError("secret")

    monkeypatch.setattr("server.session.patches.SourceWrites.list_states", broken)
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        error = await peer.fail("source.list")
        assert error["code"] == -32603
        assert len(error["data"]["errorId"]) == 32
        assert "secret" not in str(error)
        await peer.call("connection.ping")


async def test_a_reply_too_big_for_a_frame_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def huge(*_: object, **__: object) -> object:
        return ["x" * 800_000]

    monkeypatch.setattr("server.session.patches.SourceWrites.list_states", huge)
    async with open_peer(server.address, server.token(), query=CALM) as peer:
        error = await peer.fail("source.list")
        assert (error["code"], error["data"]["limit"]) == (-32015, "maxFrameBytes")


async def test_a_disconnect_cancels_reads_and_lets_a_running_write_finish(server: Server) -> None:
    server.board.gate = anyio.Event()
    async with open_peer(server.address, server.token()) as peer:
        await peer.next("feed.snapshot")
        for text in ("begun", "queued"):
            say = {"sourceId": BOARD, "actionId": "say", "params": {"text": text}}
            await peer.send("action.execute", say, id_=text)
        while not server.board.said:
            await anyio.lowlevel.checkpoint()
    while server.gateway.registry.count:
        await anyio.lowlevel.checkpoint()
    server.board.gate.set()
    with anyio.fail_after(10):
        while not server.board.finished:
            await anyio.lowlevel.checkpoint()
    assert (server.board.said, server.board.finished) == (["begun"], ["begun"])
