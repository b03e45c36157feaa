from __future__ import annotations

import socket

import pytest

from tests.support.redis import RedisServer


def test_redis_answers_at_its_address(redis_server: RedisServer, redis_url: str) -> None:
    assert redis_url == f"redis://127.0.0.1:{redis_server.port}/0"
    assert redis_server.command("PING") == "+PONG"


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_finds_it_empty(redis_server: RedisServer, attempt: int) -> None:
    assert redis_server.command("DBSIZE") == ":0"
    redis_server.command("SET key value")


def test_a_killed_redis_comes_back_empty_on_its_port(redis_server: RedisServer) -> None:
    port = redis_server.port
    redis_server.command("SET key value")
    redis_server.kill()
    with pytest.raises(ConnectionRefusedError):
        redis_server.command("PING")
    redis_server.start()
    assert (redis_server.port, redis_server.command("DBSIZE")) == (port, ":0")


def test_a_paused_redis_keeps_silent_and_goes_on_where_it_was(redis_server: RedisServer) -> None:
    redis_server.command("SET key value")
    redis_server.pause()
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=0.1) as link:
        link.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            link.recv(1)
    redis_server.resume()
    assert redis_server.command("DBSIZE") == ":1"


def test_a_redis_left_paused_or_dead_is_well_again_for_the_next_test(redis_server: RedisServer) -> None:
    redis_server.pause()
    redis_server.fresh()
    redis_server.kill()
    redis_server.fresh()
    assert redis_server.command("PING") == "+PONG"
