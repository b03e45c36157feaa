"""A short churn against a real server, and how the long forms judge what they see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.churn import Churn, run, wrong
from tests.soak.house import Sample, open_house
from tests.support.redis import RedisServer

MIB = 1 << 20
REST = Sample(
    at_s=0.0,
    rss=100 * MIB,
    tasks=8,
    descriptors=20,
    channels=1,
    connections=0,
    handshakes=0,
    subscriptions=0,
    requests=0,
    sessions=0,
)


@pytest.mark.timeout(200)
async def test_settings_changed_and_connections_made_again_and_again_leave_nothing_behind(
    database_url: str, redis_server: RedisServer
) -> None:
    with open_house(database_url, redis_server) as house:
        churn = await run(house, users=20, n_swaps=50, n_connects=300, evict=False)
    assert wrong(churn) == []
    assert [rest.sessions for rest in churn.rests] == [20, 20]


@pytest.mark.parametrize("count", ["tasks", "descriptors", "channels", "subscriptions", "sessions"])
def test_one_thing_too_many_at_rest_is_told(count: str) -> None:
    after = replace(REST, **{count: getattr(REST, count) + 1})
    (told,) = wrong(Churn([REST, after], []))
    assert told.startswith(count)


def test_memory_may_grow_by_what_an_allocator_keeps_and_no_more() -> None:
    assert wrong(Churn([REST, replace(REST, rss=105 * MIB)], [])) == []
    assert wrong(Churn([REST, replace(REST, rss=107 * MIB)], [])) == ["7.0 MiB more than 100.0 MiB before"]
