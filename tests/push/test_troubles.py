"""What is around the gateway goes wrong, or is different: the database, the issuer's keys, TLS."""

from __future__ import annotations

import datetime
import gc
import logging
import ssl
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from server.push import Listener
from server.push.connection import Connection
from server.tokens.keys import TokenKeys, generate
from server.tokens.verifier import mint
from tests.push.conftest import ALICE, Server, World
from tests.push.peers import Follower, Peer, masked, open_peer, open_raw
from tests.support.postgres import PostgresServer


async def test_without_the_database_the_warm_go_on_and_the_cold_are_told_to_wait(
    world: World, postgres: PostgresServer
) -> None:
    server = await world.start(db_timeout_s=1.0)
    async with open_peer(server.address, server.token()) as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        postgres.stop()
        server.board.show(ALICE, a="still here")
        while feed.texts() != ["still here"]:
            await feed.step()
        error = await peer.fail("source.patch", {"sourceId": "test.board", "enabled": False})
        assert (error["code"], error["data"]["outcome"]) == (-32010, "none")
        async with open_peer(server.address, server.token("bob"), welcome=False) as cold:
            close = await cold.closed()
            assert (close.code, close.reason.startswith("retryInMs=")) == (1013, True)
        async with open_peer(server.address, server.token(), query=f"?since={feed.cursor}") as again:
            await again.next("feed.delta")


class Issuer:
    """Keys that are published later."""

    def __init__(self) -> None:
        self.keys = TokenKeys(())
        self.version = 0
        self.next = TokenKeys.parse(generate("HS256", "new"))

    async def read_anew(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.keys = self.next
        self.version += 1


async def test_an_issuers_new_key_works_from_its_first_token_on(world: World) -> None:
    issuer = Issuer()
    server = await world.start(published=issuer)
    token = mint(issuer.next, ALICE, now=server.clock.now(), ttl_s=600.0)
    ping = masked(b'{"jsonrpc":"2.0","id":1,"method":"connection.ping"}')
    async with open_raw(server.address, token, query="?own=0", early=ping) as peer:
        await peer.until("connection.welcome")
        assert (await peer.message())["id"] == 1
    other = mint(TokenKeys.parse(generate("HS256", "else")), ALICE, now=server.clock.now(), ttl_s=600.0)
    async with open_peer(server.address, other, by_subprotocol=True, welcome=False) as refused:
        assert (await refused.closed()).code == 4401


def certificate(directory: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.loop("asyncio", "uvloop")
async def test_the_same_over_tls(server: Server, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    trusted = ssl.create_default_context(cafile=str(pem))
    async with server.gateway.listen(Listener(port=0, tls=context)) as [(host, port)]:
        ws = await connect(
            f"wss://{host}:{port}/v1/feed",
            ssl=trusted,
            subprotocols=[Subprotocol("freya.v1")],
            additional_headers={"Authorization": f"Bearer {server.token()}"},
            proxy=None,
        )
        peer = Peer(ws)
        await peer.next("connection.welcome")
        feed = Follower(peer, ALICE)
        await feed.step()
        server.board.show(ALICE, **{f"n{number}": "x" * 30_000 for number in range(10)})
        while len(feed.texts()) < 10:
            await feed.step()
        await peer.call("feed.get")
        [connection] = server.gateway.registry
        connection.close(4403, "revoked")
        assert (await peer.closed()).code == 4403
        await ws.wait_closed()
        with anyio.fail_after(10):
            await server.gateway.registry.wait_empty()


async def test_thousands_of_connects_and_changes_of_mind_leave_nothing_behind(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def come_and_go(user: str) -> None:
        for _ in range(20):
            async with open_raw(server.address, server.token(user, "feed:watch")) as peer:
                await peer.until("feed.snapshot")
                wish = b'{"jsonrpc":"2.0","id":1,"method":"feed.%b","params":{"feeds":[%b]}}'
                for _ in range(3):
                    await peer.send(masked(wish % (b"subscribe", b'{"feed":"bob"}')))
                    await peer.send(masked(wish % (b"unsubscribe", b'"bob"')))
                await peer.until("feed.snapshot")

    async with open_peer(server.address, server.token("bob")) as bob:
        await bob.next("feed.snapshot")
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(come_and_go, f"user-{number}")
    with anyio.fail_after(10):
        await server.gateway.registry.wait_empty()
    await anyio.wait_all_tasks_blocked()
    statistics = server.gateway.statistics()
    assert (statistics.connections, statistics.feeds, statistics.handshakes) == (0, 0, 0)
    gc.collect()
    left = [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
    assert [thing for thing in left if thing.hub is server.gateway.hub] == []
    for session in server.manager.sessions():
        assert (session.attached, session.listening) == (0, 0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
