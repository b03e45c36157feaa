"""Rubbish against the reader, the frame parser and a live server: python -m tests.fuzz --minutes 10 --seed 7

What is found is printed with its number; the same number makes the same bytes. Exit code 1 then. Where
atheris is installed, a third of the time goes to rubbish that is bred by what it reaches in the code (see
`tests.fuzz.guided`).
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import anyio

from protocol.ids import UserId
from server.tokens import TokenKeys, generate, mint
from tests.fuzz import targets
from tests.fuzz.guided import guided, is_installed
from tests.push.peers import open_peer
from tests.support.programs import Server, serving

_PURE_FOR_EACH_SOCKET = 200
_TOKEN_S = 86_400.0


def _token(keys: str, user: str) -> str:
    return mint(TokenKeys.parse(keys), UserId(user), now=datetime.now(UTC), ttl_s=_TOKEN_S, scopes=())


async def _rounds(server: Server, keys: str, first: int, until: float) -> int:
    """Runs rounds until the time is over; how many. Says which one failed."""
    number = first
    settled = _token(keys, "neighbour")
    try:
        while time.monotonic() < until:
            # One neighbour for a while, so that its own link is tried too.
            async with open_peer(server.place, settled, query="?own=0") as neighbour:
                for _ in range(100):
                    for _ in range(_PURE_FOR_EACH_SOCKET):
                        targets.reader(number)
                        targets.parser(number)
                        number += 1
                    await targets.socket(number, server.place, _token(keys, f"rubbish-{number}"), neighbour)
                    if time.monotonic() >= until:
                        break
            faults = [line for line in server.lines if "request_failed" in line or "Traceback" in line]
            assert not faults, faults[:3]
    except BaseException:
        sys.stderr.write(f"fuzz: number {number} found something (again: --seed {number})\n")
        raise
    return number - first


def main() -> int:
    """The exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--minutes", type=float, default=2.0)
    options.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    given = options.parse_args()
    sys.stdout.write(f"fuzz: {given.minutes:g} minutes from number {given.seed} on\n")
    sys.stdout.flush()
    minutes = given.minutes
    if is_installed():
        minutes *= 2 / 3
        found = guided((given.minutes - minutes) * 60, given.seed)
        if found:
            return found
    else:
        sys.stdout.write(
            "fuzz: without atheris (see pyproject.toml for where there is one): by chance alone\n"
        )
        sys.stdout.flush()
    keys = generate("HS256", "fuzz")
    limits = {"FREYA_REQUESTS_PER_S": "1000000", "FREYA_REQUEST_BURST": "1000000"}
    with (
        tempfile.TemporaryDirectory(prefix="freya-fuzz-") as folder,
        serving(
            "--data-dir", folder, settings={"FREYA_JWT_KEYS": keys, **limits}, cwd=Path(folder)
        ) as server,
    ):
        until = time.monotonic() + minutes * 60
        done = anyio.run(_rounds, server, keys, given.seed, until)
    sys.stdout.write(f"fuzz: {done} pieces of rubbish, nothing found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
