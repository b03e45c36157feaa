"""A server under siege: what each attack costs somebody else, and the server's memory.

    python -m tests.attack [--seconds 6] [--messages 1000000]

A bystander asks for a pong fifteen times a second. Exits with 1 where it is cut off, where half of its pongs
take longer than `BEARABLE_MS` in any attack, or where memory has grown by more than `ROOM_MIB` in the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import monotonic

import anyio
import psutil
from anyio.abc import Process

from protocol.client import LiveFeed, connect
from protocol.ids import UserId
from server.tokens import TokenKeys, generate, mint
from tests.attack.siege import ATTACKS, lay_siege
from tests.support.programs import ROOT, serving

__all__ = ["BEARABLE_MS", "ROOM_MIB", "main"]

BEARABLE_MS = 100.0
"""What half of the bystander's pongs must come within, however the server is attacked."""
ROOM_MIB = 64.0
"""By how much memory may have grown after all attacks."""


@dataclass
class Toll:
    """What one attack cost the others."""

    waits_ms: list[float] = field(default_factory=list[float])
    rss_mib: float = 0.0

    def __str__(self) -> str:
        cuts = quantiles(self.waits_ms, n=100)
        return f"{cuts[49]:.1f} | {cuts[98]:.1f} | {max(self.waits_ms):.0f} | {self.rss_mib:.0f}"


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each attack")
    parser.add_argument("--messages", type=int, default=1_000_000, help="bad ones, at least")
    parser.add_argument("--attack", nargs=3, metavar=("NAME", "ADDRESS", "TOKEN"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.attack:
        name, address, token = asked.attack
        print(anyio.run(lay_siege, name, address, token, asked.seconds, asked.messages))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # PostgreSQL may run as another account
        return anyio.run(_siege, f"{folder}/data", asked.seconds, asked.messages)


async def _siege(data: str, seconds: float, messages: int) -> int:
    keys = generate("HS256", "siege")
    settings = {"FREYA_JWT_KEYS": keys, "FREYA_LOG_LEVEL": "error"}
    with serving("--data-dir", data, settings=settings) as server:
        process = psutil.Process(server.process.pid)
        async with connect(server.url, _token(keys, "bystander"), settings=False) as feed:
            print("| attack | sent | median, ms | p99, ms | longest, ms | memory, MiB |")
            print("| --- | --- | --- | --- | --- | --- |")
            before = await _watched(feed, process, seconds, None)
            print(f"| none | | {before} |", flush=True)
            tolls = [before]
            for name in ATTACKS:
                least = messages if name == "bad messages" else 1
                command = [sys.executable, "-m", "tests.attack", "--seconds", str(seconds)]
                command += ["--messages", str(least)]
                command += ["--attack", name, server.place, _token(keys, "mallory")]
                async with await anyio.open_process(command, cwd=ROOT, stderr=None) as attacker:
                    tolls.append(await _watched(feed, process, seconds, attacker))
                    assert attacker.stdout is not None
                    sent = int(await attacker.stdout.receive())
                print(f"| {name} | {sent:,} | {tolls[-1]} |", flush=True)
            after = await _watched(feed, process, seconds, None)
            print(f"| none, afterwards | | {after} |")
    grown = after.rss_mib - before.rss_mib
    worst = max(quantiles(toll.waits_ms, n=100)[49] for toll in tolls)
    print(f"\nmemory: {grown:+.0f} MiB; the longest median: {worst:.1f} ms")
    return int(grown > ROOM_MIB or worst > BEARABLE_MS)


async def _watched(feed: LiveFeed, process: psutil.Process, seconds: float, attacker: Process | None) -> Toll:
    """The bystander's waits for so long, and while the attacker is at it."""
    toll, until = Toll(), monotonic() + seconds
    while monotonic() < until or (attacker is not None and attacker.returncode is None):
        began = monotonic()
        await feed.ping(timeout_s=5.0)
        toll.waits_ms.append((monotonic() - began) * 1000)
        await anyio.sleep(0.06)
    toll.rss_mib = process.memory_info().rss / 2**20
    return toll


def _token(keys: str, user: str) -> str:
    now = datetime.now(UTC)
    return mint(TokenKeys.parse(keys), UserId(user), now=now, ttl_s=3600.0, scopes=("feed:watch",))


if __name__ == "__main__":
    sys.exit(main())
