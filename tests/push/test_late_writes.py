"""A write whose asker has gone may not come late, behind its repetition and what was written after that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.push.conftest import ALICE, Server
from tests.push.peers import RawPeer, masked, open_raw
from tests.support.databases import connect

PUBLISHER = "item:publish"
NOTE = (
    '{"jsonrpc":"2.0","id":1,"method":"item.publish",'
    '"params":{"feed":"alice","items":[{"id":"a","type":"note","data":{"text":"old"}}]}}'
)
STORED = "SELECT item #>> '{data,text}' FROM inbox_items WHERE user_id = 'alice'"


@asynccontextmanager
async def locked(url: str) -> AsyncGenerator[None]:
    """Somebody else writes for alice, and takes their time."""
    link = await connect(url)
    try:
        await link.execute("BEGIN; SELECT 1 FROM users WHERE user_id = 'alice' FOR UPDATE")
        yield
    finally:
        await link.close()


@pytest.fixture
async def alices(server: Server, database_url: str) -> Server:
    """A replica, and a user who has been there before: a write for her begins with the lock of her row."""
    link = await connect(database_url)
    await link.execute("INSERT INTO users (user_id, seq) VALUES ('alice', 1)")
    await link.close()
    return server


@asynccontextmanager
async def begun(server: Server, url: str) -> AsyncGenerator[RawPeer]:
    """A client whose write has been begun, and waits for the lock."""
    async with open_raw(server.address, server.token(ALICE, PUBLISHER), query="?own=0") as peer:
        await peer.send(masked(NOTE.encode()))
        link = await connect(url)
        try:
            with anyio.fail_after(20.0):
                while not await link.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 -- another process
                    await anyio.sleep(0.01)
        finally:
            await link.close()
        yield peer


async def at_rest(server: Server) -> str | None:
    """What is stored of the note, once no connection and no write is left."""
    with anyio.fail_after(20.0):
        await server.gateway.registry.wait_empty()
        while (pool := server.database.statistics()).idle < pool.size:  # noqa: ASYNC110 -- a pool tells nobody
            await anyio.sleep(0.01)
    row = await server.database.fetch_one(STORED)
    return None if row is None else str(row[0])


async def test_a_write_whose_connection_broke_before_it_began_is_not_done(
    alices: Server, database_url: str
) -> None:
    async with locked(database_url):
        async with begun(alices, database_url):
            pass
        with anyio.fail_after(20.0):
            await alices.gateway.registry.wait_empty()
    assert await at_rest(alices) is None


@pytest.mark.parametrize("code", [1000, 1001])
async def test_who_leaves_in_order_has_its_write_done(alices: Server, database_url: str, code: int) -> None:
    async with locked(database_url), begun(alices, database_url) as peer:
        await peer.send(masked(code.to_bytes(2), opcode=8))
        assert (await peer.close_frame())[0] == code
    assert await at_rest(alices) == "old"


async def test_who_takes_the_server_for_dead_does_not_have_its_write_done(
    alices: Server, database_url: str
) -> None:
    async with locked(database_url), begun(alices, database_url) as peer:
        await peer.send(masked((4408).to_bytes(2), opcode=8))
        assert (await peer.close_frame())[0] == 4408
    assert await at_rest(alices) is None
