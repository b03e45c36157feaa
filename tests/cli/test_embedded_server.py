"""A server with a PostgreSQL of its own, which dies under it, and whose disk fills up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import anyio
import httpx
import pytest
from anyio import fail_after, to_thread

from protocol.client import ClientError, LiveFeed, Status, connect
from protocol.errors import RpcError, StorageUnavailableError
from protocol.ids import UserId
from server.tokens import TokenKeys, generate, mint
from tests.support.programs import Server, serving

ALICE = UserId("alice")
KEYS = generate("HS256", "test")
PATIENCE_S = 90.0
SIZE = "160m"


@dataclass
class House:
    server: Server
    data_dir: Path
    is_small: bool
    """Whether its data is on a file system of its own, which can be filled."""

    @asynccontextmanager
    async def at_home(self) -> AsyncGenerator[LiveFeed]:
        now, scopes = datetime.now(UTC), ("item:publish",)
        token = mint(TokenKeys.parse(KEYS), ALICE, now=now, ttl_s=3600.0, scopes=scopes)
        async with connect(self.server.url, token) as feed:
            with fail_after(PATIENCE_S):
                await feed.wait_status(Status.LIVE)
            yield feed

    async def degraded(self) -> list[str]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{self.server.place}/readyz", timeout=PATIENCE_S)
            assert answer.status_code == 200
            return answer.json()["degraded"]

    async def until_degraded(self, names: list[str]) -> None:
        with fail_after(PATIENCE_S):
            while await self.degraded() != names:  # noqa: ASYNC110 -- it is another process that changes
                await anyio.sleep(0.05)


@pytest.fixture(scope="module")
def house() -> Generator[House]:
    place = Path(tempfile.mkdtemp(prefix="freya-full-"))
    place.chmod(0o755)
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=755", "none", str(place)]
    is_small = mount is not None and subprocess.run([mount, *options], capture_output=True).returncode == 0
    settings = {"FREYA_JWT_KEYS": KEYS, "FREYA_LOG_LEVEL": "info"}
    try:
        with serving("--data-dir", str(place / "data"), settings=settings) as server:
            yield House(server, place / "data", is_small)
            assert server.end() == 0
    finally:
        if is_small:
            subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(place)


async def _publish(feed: LiveFeed, name: str, text: str = "x") -> None:
    await feed.publish(ALICE, [{"id": name, "type": "note", "data": {"name": name, "text": text}}])


async def _sees(feed: LiveFeed, name: str) -> None:
    with fail_after(PATIENCE_S):
        async for state in feed:
            if any(item.data.get("name") == name for item in state.items):
                return


async def _eventually(write: Callable[[], Awaitable[None]]) -> None:
    with fail_after(PATIENCE_S):
        while True:
            try:
                await write()
            except (RpcError, ClientError):
                await anyio.sleep(0.1)
            else:
                return


@pytest.mark.timeout(300)
async def test_a_server_starts_its_own_postgresql_again_and_its_clients_stay(house: House) -> None:
    async with house.at_home() as feed:
        await _publish(feed, "before")
        await _sees(feed, "before")
        pid = int((house.data_dir / "pg" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        await to_thread.run_sync(house.server.wait_line, '"event":"embedded_postgres_gone"')
        await to_thread.run_sync(house.server.wait_line, '"event":"embedded_postgres_back"')
        await _eventually(lambda: _publish(feed, "after"))
        await _sees(feed, "after")
        await _sees(feed, "before")
        await house.until_degraded([])


@pytest.mark.timeout(300)
async def test_a_full_disk_is_said_to_writers_and_to_readyz_and_over_when_there_is_room(house: House) -> None:
    if not house.is_small:
        pytest.skip("needs to mount a small file system, which takes root: a full disk was NOT tried")
    filler = house.data_dir / "filler"
    async with house.at_home() as feed:
        await _publish(feed, "room")
        await _sees(feed, "room")
        _fill(filler)
        with pytest.raises(StorageUnavailableError):
            await _publish_without_end(feed)
        await house.until_degraded(["postgresql"])
        assert feed.status is Status.LIVE
        filler.unlink()
        await _eventually(lambda: _publish(feed, "again"))
        await _sees(feed, "again")
        await _sees(feed, "room")
        await house.until_degraded([])


async def _publish_without_end(feed: LiveFeed) -> None:
    rng = Random(1)
    for number in range(500):
        await _publish(feed, f"big-{number}", rng.randbytes(9000).hex())


def _fill(file: Path) -> None:
    """Takes all the room there is."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                continue
