"""What a client may ask for in the URL: clamped, never refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.push.params import ConnectParams, Wish, read_query


def test_without_a_query_everything_is_as_usual() -> None:
    assert read_query("") == Wish(ConnectParams())
    assert read_query("", beat=True).params.beat


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("own=0", ConnectParams(own=False)),
        ("delta=0", ConnectParams(delta=False)),
        ("context=1", ConnectParams(context=True)),
        ("settings=0", ConnectParams(settings=False)),
        ("debug=1", ConnectParams(debug=True)),
        ("deflate=0", ConnectParams(deflate=False)),
        ("beat=1", ConnectParams(beat=True)),
        ("heartbeatMs=60000", ConnectParams(heartbeat_s=60.0)),
        ("heartbeatMs=1", ConnectParams(heartbeat_s=5.0)),
        ("heartbeatMs=-5", ConnectParams(heartbeat_s=5.0)),
        ("heartbeatMs=99999999", ConnectParams(heartbeat_s=300.0)),
        ("heartbeatMs=soon", ConnectParams()),
        ("heartbeatMs=1e9", ConnectParams()),
        ("minIntervalMs=1500", ConnectParams(min_interval_s=1.5)),
        ("minIntervalMs=99999999", ConnectParams(min_interval_s=60.0)),
        ("minIntervalMs=-1", ConnectParams()),
        ("own=maybe&unknown=1", ConnectParams()),
    ],
)
def test_a_choice_is_taken_or_clamped_or_ignored(query: str, expected: ConnectParams) -> None:
    assert read_query(query).params == expected


def test_a_page_may_decline_the_beat() -> None:
    assert not read_query("beat=0", beat=True).params.beat


@pytest.mark.parametrize(
    ("query", "client"),
    [
        ("client=phone-1_a.b", "phone-1_a.b"),
        ("client=" + "x" * 64, "x" * 64),
        ("client=" + "x" * 65, None),
        ("client=two%20words", None),
        ("client=", None),
        ("client=%0a", None),
    ],
)
def test_a_client_id_is_short_and_plain_or_nothing(query: str, client: str | None) -> None:
    assert read_query(query).client == client


def test_a_cursor_is_taken_as_it_is_unless_it_is_too_long() -> None:
    assert read_query("since=abc_-9").since == "abc_-9"
    assert read_query("since=" + "x" * 129).since is None


def test_connections_that_choose_the_same_share_the_choices() -> None:
    assert read_query("context=1&since=a").params is read_query("context=1&since=b&client=x").params


@given(st.text(max_size=300))
def test_any_query_can_be_read(query: str) -> None:
    params = read_query(query).params
    assert 5.0 <= params.heartbeat_s <= 300.0
    assert 0.0 <= params.min_interval_s <= 60.0
