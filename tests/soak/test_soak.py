"""A short churn against a real server, and how the long forms judge what they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.soak import verdict
from tests.soak.__main__ import drawn
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


def soak(
    memory: Callable[[float], float], *, after: Sample = REST, faults: tuple[str, ...] = ()
) -> list[str]:
    """What is said of ten minutes with that memory (MiB, by the minute)."""
    during = [replace(REST, at_s=s, rss=int(memory(s / 60) * MIB)) for s in range(0, 600, 2)]
    return verdict.wrong(verdict.Soak(REST, during, after, faults))


def test_memory_that_grows_while_it_warms_up_and_then_stays_is_flat() -> None:
    assert soak(lambda minute: 100 + 30 * min(1.0, minute / 2)) == []


def test_memory_that_goes_on_growing_is_not_flat() -> None:
    (told,) = soak(lambda minute: 100 + 3 * minute)
    assert told == "memory grew from 108.9 to 126.9 MiB"


def test_one_peak_is_no_growth() -> None:
    assert soak(lambda minute: 300 if 8.9 < minute < 9.1 else 100) == []


def test_what_is_left_over_and_what_clients_saw_is_told() -> None:
    left = replace(REST, descriptors=21)
    assert soak(lambda _: 100, after=left, faults=("went back",)) == [
        "descriptors: 20 before, 21 after",
        "went back",
    ]


def test_the_plot_is_a_picture_that_stands_alone() -> None:
    picture = ElementTree.fromstring(drawn([replace(REST, at_s=s, sessions=s) for s in range(5)]))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}polyline")) == 6
