"""`freya serve --workers N` as it runs: several processes that look like one server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from server.metrics_merge import merge_pages
from server.tokens import generate
from storage.credentials import generate_key
from tests.support.ports import free_port
from tests.support.programs import Server, running, serving

_PATIENCE_S = 40.0


@contextmanager
def _two_workers(database_url: str, redis_url: str, folder: Path) -> Generator[Server]:
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "FREYA_JWT_KEYS": generate("HS256", "test"),
        "FREYA_CREDENTIAL_KEYS": generate_key("test"),
        "FREYA_DB_POOL": "2",
    }
    with serving("--workers", "2", "--data-dir", str(folder), settings=settings) as server:
        yield server


def _figure(server: Server, name: str) -> float:
    with urlopen(f"http://{server.place}/metrics", timeout=_PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.split()[0] == name)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def test_workers_share_a_port_and_a_page_of_metrics_and_one_that_dies_is_replaced(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with _two_workers(database_url, redis_url, tmp_path) as server:
        first = _workers(server)
        assert len(first) == 2
        assert _figure(server, "freya_workers") == 2
        assert _figure(server, "freya_workers_answering") == 2
        assert _figure(server, "freya_bus_healthy") == 1

        first[0].kill()
        server.wait_line("worker_died")
        _until(
            lambda: len(_workers(server)) == 2 and _figure(server, "freya_workers_answering") == 2,
            "nobody took the place of a worker that was killed",
        )
        assert first[1].is_running()

        assert server.end() == 0
        assert not first[1].is_running()


def test_workers_end_when_their_supervisor_is_killed(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with _two_workers(database_url, redis_url, tmp_path) as server:
        workers = _workers(server)
        server.process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=_PATIENCE_S)
        assert alive == []


def test_workers_without_redis_are_refused_by_name(tmp_path: Path) -> None:
    with running("serve", "--workers", "2", "--data-dir", str(tmp_path)) as program:
        program.wait_line("FREYA_WORKERS.*needs REDIS_URL")
        assert program.wait_end() == 2


def test_what_keeps_a_worker_from_starting_is_said_once_and_ends_them_all(
    database_url: str, tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        "FREYA_JWT_KEYS": generate("HS256", "test"),
        "PORT": "0",
    }
    arguments = ("serve", "--workers", "3", "--data-dir", str(tmp_path))
    with running(*arguments, settings=settings) as program:
        assert program.wait_end() == 1
        assert sum("Redis does not answer" in line for line in program.lines) == 1
        assert not any("Traceback" in line for line in program.lines)


def test_a_port_that_other_workers_have_is_taken(database_url: str, redis_url: str, tmp_path: Path) -> None:
    with _two_workers(database_url, redis_url, tmp_path) as server:
        port = server.place.rpartition(":")[2]
        settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PORT": port}
        with running("serve", "--workers", "2", settings=settings) as second:
            second.wait_line("is taken")
            assert second.wait_end() == 1


PAGE = """\
# HELP freya_accepted_total Connections accepted.
# TYPE freya_accepted_total counter
freya_accepted_total {accepted}
# HELP freya_bus_healthy 1 while hints get through.
# TYPE freya_bus_healthy gauge
freya_bus_healthy {healthy}
# HELP freya_draining 1 while the server drains.
# TYPE freya_draining gauge
freya_draining {draining}
# HELP freya_lag_seconds Lag.
# TYPE freya_lag_seconds histogram
freya_lag_seconds_bucket{{le="0.1"}} {accepted}
freya_lag_seconds_bucket{{le="+Inf"}} {accepted}
freya_lag_seconds_count {accepted}
freya_lag_seconds_sum 0.5
# HELP freya_closed_total Ended.
# TYPE freya_closed_total counter
freya_closed_total{{code="{code}"}} 1.0
# HELP process_open_fds Files.
# TYPE process_open_fds gauge
process_open_fds 7.0
"""


@pytest.fixture
def merged() -> list[str]:
    one = PAGE.format(accepted="3.0", healthy="1.0", draining="0.0", code=1001)
    two = PAGE.format(accepted="4.0", healthy="0.0", draining="1.0", code=4401)
    return merge_pages({0: one.encode(), 1: two.encode()}, workers=3).decode().splitlines()


def test_counts_of_workers_are_added_up_bucket_by_bucket_and_label_by_label(merged: list[str]) -> None:
    for line in (
        "freya_accepted_total 7.0",
        'freya_lag_seconds_bucket{le="0.1"} 7.0',
        "freya_lag_seconds_sum 1.0",
        'freya_closed_total{code="1001"} 1.0',
        'freya_closed_total{code="4401"} 1.0',
    ):
        assert line in merged


def test_a_state_is_as_bad_as_that_of_the_worst_worker(merged: list[str]) -> None:
    assert "freya_bus_healthy 0.0" in merged
    assert "freya_draining 1.0" in merged


def test_figures_of_a_process_name_their_worker(merged: list[str]) -> None:
    assert 'process_open_fds{worker="0"} 7.0' in merged
    assert 'process_open_fds{worker="1"} 7.0' in merged


def test_workers_that_did_not_answer_can_be_seen(merged: list[str]) -> None:
    assert "freya_workers 3.0" in merged
    assert "freya_workers_answering 2.0" in merged
