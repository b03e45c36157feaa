"""Redis in every shape that REDIS_URL can name: one server, TLS, sentinels, a cluster."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.reaper import Reaper
from tests.support.redis import RedisServer, find_redis

__all__ = ["cluster", "sentinel"]

_PATIENCE_S = 30.0
_SLOTS = 16384
_BUS_OFFSET = 10_000


@contextmanager
def sentinel(reaper: Reaper, server: RedisServer) -> Generator[str]:
    """A sentinel that knows the server as `mymaster`; the address that names the sentinel."""
    port = free_port()
    config = f"port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {server.port} 1\n"
    with _process(reaper, "--sentinel", config=config):
        _until(lambda: _inline(port, "SENTINEL get-master-addr-by-name mymaster").startswith("*2"))
        yield f"redis+sentinel://127.0.0.1:{port}/mymaster"


@contextmanager
def cluster(reaper: Reaper) -> Generator[Sequence[int]]:
    """Three masters that share all slots; their ports."""
    ports = [_free_pair() for _ in range(3)]
    with ExitStack() as stack:
        for port in ports:
            options = ("--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes")
            stack.enter_context(_process(reaper, *options, "--cluster-node-timeout", "2000"))
        for number, port in enumerate(ports):
            _until(lambda port=port: _inline(port, "PING") == "+PONG")
            slots = range(_SLOTS * number // 3, _SLOTS * (number + 1) // 3)
            assert _inline(port, "CLUSTER ADDSLOTS " + " ".join(map(str, slots))) == "+OK"
        for port in ports[1:]:
            assert _inline(port, f"CLUSTER MEET 127.0.0.1 {ports[0]}") == "+OK"
        for port in ports:
            _until(lambda port=port: _is_whole(port))
        yield ports


@contextmanager
def _process(reaper: Reaper, *arguments: str, config: str = "") -> Generator[None]:
    """A redis-server with a configuration file that it may write to, in a directory that goes with it."""
    with tempfile.TemporaryDirectory(prefix="freya-redis-") as directory:
        path = Path(directory) / "server.conf"
        path.write_text(f"{config}dir {directory}\n")
        with (Path(directory) / "log").open("ab") as log:
            running = subprocess.Popen(
                [str(find_redis()), str(path), *arguments], stdout=log, stderr=log, start_new_session=True
            )
        reaper.kill(running.pid)
        try:
            yield
        finally:
            running.kill()
            running.wait()
            reaper.spare(running.pid)


def _is_whole(port: int) -> bool:
    told = _inline(port, "CLUSTER INFO", lines=8)
    return "cluster_state:ok" in told and "cluster_known_nodes:3" in told


def _inline(port: int, command: str, *, lines: int = 1) -> str:
    """Sends one command in Redis' inline form; the first lines of the answer, "" where nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as link:
            link.sendall(command.encode() + b"\r\n")
            with link.makefile("rb") as answer:
                return "\n".join(answer.readline().decode().strip() for _ in range(lines))
    except OSError:
        return ""


def _free_pair() -> int:
    """A free port whose neighbour, ten thousand further, is free too: there the nodes talk to each other."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + _BUS_OFFSET))
            except (OSError, OverflowError):
                continue
        return port


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "this Redis did not come up"
        time.sleep(0.02)
