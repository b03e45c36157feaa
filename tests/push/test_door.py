"""Who is let in and who is not, and how each kind of client is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from ipaddress import ip_network

import pytest
from anyio import fail_after
from websockets.exceptions import InvalidStatus

from server.push import Listener, PushOptions
from server.session.users import UserWrites
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import PATIENCE_S, masked, open_peer, open_raw
from tests.support.clock import TestClock


async def refused(server: Server, token: str | None, **how: object) -> tuple[int, dict[str, str]]:
    """The status and headers of an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with open_peer(server.address, token, welcome=False, **how):  # pyright: ignore[reportArgumentType] -- passed on as given
            pass
    response = caught.value.response
    return response.status_code, {name.lower(): value for name, value in response.headers.raw_items()}


async def closed(server: Server, token: str, **how: object) -> tuple[int, str]:
    """The code and reason of a connection whose token came as a subprotocol, closed before anything else."""
    async with open_peer(
        server.address,
        token,
        by_subprotocol=True,
        welcome=False,
        **how,  # pyright: ignore[reportArgumentType] -- passed on as given
    ) as peer:
        assert peer.ws.subprotocol == "freya.v1"
        close = await peer.closed()
        assert peer.unread == []
        return int(close.code), close.reason


async def test_a_token_opens_in_the_header_and_as_a_subprotocol(server: Server) -> None:
    async with open_peer(server.address, server.token()) as peer:
        assert peer.welcome["user"] == "alice"
        assert peer.ws.subprotocol == "freya.v1"
    async with open_peer(server.address, server.token(), by_subprotocol=True) as peer:
        assert peer.welcome["user"] == "alice"
        assert peer.ws.subprotocol == "freya.v1"


async def test_the_welcome_says_what_a_client_must_know(server: Server) -> None:
    async with open_peer(server.address, server.token(), query="?heartbeatMs=7000") as peer:
        welcome = peer.welcome
    assert welcome["protocol"] == 1
    assert welcome["replica"] == "r1"
    assert welcome["heartbeatMs"] == 7000
    assert welcome["limits"] == {
        "maxMessageBytes": 65536,
        "maxFrameBytes": 786432,
        "requestsPerS": 50.0,
        "burst": 100,
        "concurrent": 16,
        "subscriptions": 64,
        "items": 2000,
    }


async def test_a_missing_expired_or_wrong_token_in_the_header_is_401(server: Server) -> None:
    for token in (None, "nonsense", server.token(age_s=7200), server.token()[:-4] + "AAAA", "x" * 6500):
        status, headers = await refused(server, token)
        assert status == 401
        assert headers["www-authenticate"].startswith("Bearer ")


async def test_a_wrong_token_as_a_subprotocol_is_4401_before_anything_else(server: Server) -> None:
    assert await closed(server, "nonsense") == (4401, "")
    assert await closed(server, server.token(age_s=7200)) == (4401, "")


async def test_a_revoked_token_is_403_or_4403(server: Server) -> None:
    token = server.token(age_s=10)
    await UserWrites(server.manager).revoke(ALICE, server.clock.now() - timedelta(seconds=5))
    assert (await refused(server, token))[0] == 403
    assert (await closed(server, token))[0] == 4403
    async with open_peer(server.address, server.token()):
        pass


async def test_before_the_server_is_ready_it_says_when_to_come_back(world: World) -> None:
    server = await world.start(ready=False)
    status, headers = await refused(server, server.token())
    assert (status, headers["retry-after"]) == (503, "1")
    code, reason = await closed(server, server.token())
    assert code == 1013
    assert reason == "retryInMs=1000"


async def test_a_user_has_only_so_many_connections(world: World) -> None:
    server = await world.start(options=PushOptions(max_connections_per_user=2))
    async with (
        open_peer(server.address, server.token()),
        open_peer(server.address, server.token()) as second,
        open_peer(server.address, server.token("bob")),
    ):
        status, headers = await refused(server, server.token())
        assert (status, headers["retry-after"]) == (429, "30")
        assert await closed(server, server.token()) == (4429, "retryInMs=30000")
        assert server.gateway.statistics().limits == {"connections_per_user": 2}
        await second.ws.close()
        async with open_peer(server.address, server.token()):
            pass


async def test_a_process_has_only_so_many_connections(world: World) -> None:
    server = await world.start(options=PushOptions(max_connections=1))
    async with open_peer(server.address, server.token()):
        assert (await refused(server, server.token("bob")))[0] == 503
        assert (await closed(server, server.token("bob")))[0] == 1013
        assert server.gateway.statistics().limits == {"max_connections": 2}


async def test_upgrades_past_the_rate_are_put_off(world: World) -> None:
    server = await world.start(options=PushOptions(accepts_per_s=0.5))
    async with open_peer(server.address, server.token()):
        status, headers = await refused(server, server.token())
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        code, reason = await closed(server, server.token())
        assert code == 1013
        assert reason.startswith("retryInMs=")
        assert server.gateway.statistics().limits == {"accept_per_s": 2}


async def test_a_process_short_of_memory_takes_nobody_new(server: Server) -> None:
    server.gateway.set_overloaded(True)
    assert (await refused(server, server.token()))[0] == 503
    assert server.gateway.statistics().limits == {"memory_high_mib": 1}
    server.gateway.set_overloaded(False)
    async with open_peer(server.address, server.token()):
        pass


async def test_a_client_that_does_not_offer_our_subprotocol_is_400(server: Server) -> None:
    assert (await refused(server, server.token(), subprotocols=("other.v1",)))[0] == 400


async def test_a_forbidden_origin_is_403_whatever_the_token(world: World) -> None:
    server = await world.start(options=PushOptions(origins=frozenset({"https://app.example"})))
    evil = {"Origin": "https://evil.example"}
    assert (await refused(server, server.token(), headers=evil))[0] == 403
    assert (await refused(server, "nonsense", headers=evil))[0] == 403
    assert (await refused(server, server.token(), headers=evil, by_subprotocol=True))[0] == 403
    for origin in ("https://app.example", f"http://{server.address}"):
        async with open_peer(server.address, server.token(), headers={"Origin": origin}):
            pass


async def test_a_newer_connection_of_a_client_replaces_the_older(server: Server) -> None:
    async with (
        open_peer(server.address, server.token(), query="?client=phone-1") as first,
        open_peer(server.address, server.token(), query="?client=tablet") as other,
        open_peer(server.address, server.token("bob"), query="?client=phone-1") as bob,
        open_peer(server.address, server.token(), query="?client=phone-1") as second,
    ):
        assert (await first.closed()).code == 4409
        for peer in (second, other, bob):
            await peer.call("connection.ping")


async def test_a_full_user_may_still_replace_its_own_client(world: World) -> None:
    server = await world.start(options=PushOptions(max_connections_per_user=1))
    async with (
        open_peer(server.address, server.token(), query="?client=a"),
        open_peer(server.address, server.token(), query="?client=a") as second,
    ):
        await second.call("connection.ping")


async def test_bytes_behind_the_upgrade_are_the_first_frame(server: Server) -> None:
    ping = masked(b'{"jsonrpc":"2.0","id":1,"method":"connection.ping"}')
    async with open_raw(server.address, server.token(), early=ping) as peer:
        methods = [message.get("method", "reply") for message in [await peer.message() for _ in range(3)]]
        assert methods == ["connection.welcome", "feed.snapshot", "reply"]
    # Also where the session is there already, and with half of a frame.
    async with open_raw(server.address, server.token(), early=ping[:9]) as peer:
        await peer.until("feed.snapshot")
        await peer.send(ping[9:])
        assert "result" in await peer.message()


async def test_a_handshake_may_come_byte_by_byte(server: Server) -> None:
    async with open_raw(server.address, upgrade=False) as peer:
        request = (
            "GET /v1/feed HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: freya.v1, bearer.{server.token()}\r\n\r\n"
        ).encode()
        for at in range(0, len(request), 7):
            await peer.send(request[at : at + 7])
            await asyncio.sleep(0)
        with fail_after(PATIENCE_S):
            head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert b"freya.v1\r\n" in head
        await peer.until("connection.welcome")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v1/feed HTTP/1.1\r\nHost: x", b"426"),
        (b"POST /v1/feed HTTP/1.1\r\nHost: x", b"405"),
        (b"POST / HTTP/1.1\r\nHost: x", b"405"),
        (b"GET / HTTP/1.1\r\nContent-Length: 3", b"400"),
        (b"nonsense", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
    ],
)
async def test_a_request_that_is_no_upgrade_gets_a_clear_answer(
    server: Server, request_line: bytes, status: bytes
) -> None:
    async with open_raw(server.address, upgrade=False) as peer:
        await peer.send(request_line + b"\r\n\r\n")
        answer = await peer.rest()
    assert answer.split(b" ")[1] == status
    assert b"Traceback" not in answer


async def test_headers_without_end_are_cut_at_their_bound(server: Server) -> None:
    async with open_raw(server.address, upgrade=False) as peer:
        await peer.send(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000)
        assert (await peer.rest()).startswith(b"HTTP/1.1 431")


async def test_what_is_not_the_feed_goes_to_the_pages(server: Server) -> None:
    async with open_raw(server.address, upgrade=False) as peer:
        await peer.send(b"GET /a%20page?x=1 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /b HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.send(b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = await peer.rest()
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert b"GET /a page" in answer
    assert b"HEAD /b" not in answer
    assert answer.endswith(b"GET /c")


async def test_a_page_that_fails_says_no_more_than_that(world: World) -> None:
    async def broken(request: object) -> object:
        raise RuntimeError("secret")

    server = await world.start(http_handler=broken)  # pyright: ignore[reportArgumentType] -- it never answers
    async with open_raw(server.address, upgrade=False) as peer:
        await peer.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"secret" not in answer


async def test_slow_handshakes_end_at_their_deadlines(slow_world: World) -> None:
    server = await slow_world.start(
        options=PushOptions(first_byte_timeout_s=5.0, handshake_timeout_s=10.0, keep_alive_s=15.0)
    )
    clock = server.clock
    assert isinstance(clock, TestClock)
    async with (
        open_raw(server.address, upgrade=False) as silent,
        open_raw(server.address, upgrade=False) as slow,
        open_raw(server.address, upgrade=False) as lazy,
    ):
        await slow.send(b"GET / HT")
        await lazy.send(b"GET / HTTP/1.1\r\n\r\n")
        await clock.advance(4.0, quiet_s=0.05)
        await slow.send(b"TP/1.1\r\n")
        await clock.advance(2.0, quiet_s=0.05)
        assert await silent.rest() == b""
        await clock.advance(5.0, quiet_s=0.05)
        assert (await slow.rest()).startswith(b"HTTP/1.1 408")
        await clock.advance(10.0, quiet_s=0.05)
        assert (await lazy.rest()).startswith(b"HTTP/1.1 200")
    assert server.gateway.statistics().limits == {"first_byte_s": 1, "handshake_s": 1}


async def test_addresses_are_counted_as_the_balancer_names_them(world: World) -> None:
    server = await world.start(
        options=PushOptions(proxy_networks=(ip_network("127.0.0.0/8"),), max_connections_per_address=1)
    )

    async def status(source: str, user: str) -> bytes:
        request = (
            f"PROXY TCP4 {source} 10.0.0.1 1 2\r\nGET /v1/feed HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: freya.v1\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Authorization: Bearer {server.token(user)}\r\n\r\n"
        )
        peer = await stack.enter_async_context(open_raw(server.address, upgrade=False))
        await peer.send(request.encode())
        with fail_after(PATIENCE_S):
            return (await peer.reader.readuntil(b"\r\n\r\n")).split(b" ")[1]

    stack = world.stack
    assert await status("192.0.2.1", "a") == b"101"
    assert await status("192.0.2.2", "b") == b"101"
    assert await status("192.0.2.1", "c") == b"429"
    assert server.gateway.statistics().limits == {"connections_per_address": 1}


async def test_where_clients_come_directly_their_own_addresses_are_counted(world: World) -> None:
    server = await world.start(
        options=PushOptions(max_connections_per_address=1), listener=Listener(port=0, counts_addresses=True)
    )
    async with open_peer(server.address, server.token()):
        assert (await refused(server, server.token("bob")))[0] == 429
        assert server.gateway.statistics().limits == {"connections_per_address": 1}
        # Behind a balancer all have its address: that one is nobody's.
        async with server.gateway.listen(Listener(port=0)) as [(_, port)]:
            for name in ("carol", "dave"):
                async with open_peer(f"127.0.0.1:{port}", server.token(name)):
                    pass
    async with open_peer(server.address, server.token("bob")):
        pass


async def test_a_trusted_peer_without_a_proxy_header_is_dropped(world: World) -> None:
    server = await world.start(options=PushOptions(proxy_networks=(ip_network("127.0.0.0/8"),)))
    async with open_raw(server.address, upgrade=False) as peer:
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        try:
            answer = await peer.rest()
        except ConnectionError:
            answer = b""
        assert answer == b""


async def test_a_port_that_is_taken_is_an_error_at_once(server: Server) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(OSError, match="already in use"):
        async with server.gateway.listen(Listener(port=port)):
            pass


async def test_two_listeners_share_a_port_where_they_are_told_to(server: Server) -> None:
    async with (
        server.gateway.listen(Listener(port=0, reuse_port=True)) as [(_, port)],
        server.gateway.listen(Listener(port=port, reuse_port=True)),
    ):
        for _ in range(4):
            async with open_peer(f"127.0.0.1:{port}", server.token()):
                pass
