"""The log: one event a line, and nothing secret in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from server.log import redact, set_up, user_hash

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    set_up("info", "json", stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_its_time_in_utc(out: io.StringIO) -> None:
    structlog.get_logger().info("session_created", user=user_hash("alice"), sources=5)
    (line,) = lines(out)
    assert list(line) == ["at", "level", "event", "user", "sources"]
    assert str(line["at"]).endswith("Z")


def test_what_is_below_the_level_is_not_written(out: io.StringIO) -> None:
    structlog.get_logger().debug("noise")
    assert lines(out) == []


@pytest.mark.parametrize(
    "name",
    ["token", "accessToken", "password", "credentials", "api_key", "Authorization", "private_key", "dsn"],
)
def test_fields_that_hold_secrets_by_their_name_are_blanked_at_any_depth(out: io.StringIO, name: str) -> None:
    structlog.get_logger().info("x", **{name: "hunter2"}, inside={"list": [{name: "hunter2"}]})
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize("name", ["tokens_in", "key_id", "credential_keys_count", "duration_ms"])
def test_fields_that_only_sound_secret_stay(out: io.StringIO, name: str) -> None:
    structlog.get_logger().info("x", **{name: "seen"})
    assert lines(out)[0][name] == "seen"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /?t={TOKEN}",
        f"Sec-WebSocket-Protocol: freya.v1, bearer.{TOKEN}",
        "Authorization: Bearer c2VjcmV0c2VjcmV0c2VjcmV0",
        "can't connect to postgres://freya:c2VjcmV0@db/freya",
        "redis://:c2VjcmV0@cache:6379/0",
    ],
)
def test_tokens_and_passwords_are_taken_out_of_texts(out: io.StringIO, text: str) -> None:
    structlog.get_logger().warning("x", reason=text)
    logging.getLogger("library").warning("%s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        structlog.get_logger().exception("failed")
    assert len(lines(out)) == 3
    for secret in ("c2VjcmV0", "c2lnbmF0dXJl", "eyJzdWIi"):
        assert secret not in out.getvalue()


def test_a_text_without_secrets_is_left_alone() -> None:
    assert (
        redact("https://example.org/a?b=c user@example.org 12:30")
        == "https://example.org/a?b=c user@example.org 12:30"
    )


def test_what_cannot_be_encoded_does_not_break_the_line(out: io.StringIO) -> None:
    structlog.get_logger().info("x", odd=object(), text="\udcff", number=2**70, by_number={1: 2})
    assert lines(out)[0]["event"] == "x"


def test_users_are_told_apart_but_not_named_and_a_salt_makes_them_others(out: io.StringIO) -> None:
    plain = user_hash("alice")
    assert plain == user_hash("alice") != user_hash("bob")
    assert "alice" not in plain
    set_up("info", "json", salt="pepper", stream=out)
    assert user_hash("alice") != plain
    set_up("info", "json", stream=out)
    assert user_hash("alice") == plain


def test_a_person_gets_readable_lines() -> None:
    stream = io.StringIO()
    set_up("info", "pretty", stream=stream)
    structlog.get_logger().info("session_created", sources=5)
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)
    assert "session_created" in stream.getvalue()
    assert "sources=5" in stream.getvalue()
