"""The figures of `stats.update`: rates, quantiles, talkers, and their sum over replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import ReplicaId, UserId
from server.push.counters import Counters
from server.push.live_figures import quantile_ms, readable
from server.push.methods.rooms import Alone
from tests.push.conftest import ALICE, World
from tests.push.peers import open_peer
from tests.support.clock import TestClock

BOUNDS = (0.001, 0.01, 0.1)


class OneOther(Alone):
    """Another replica that has twice everything."""

    def total(self, own: Mapping[str, float]) -> Mapping[str, float]:
        return {"replicas": 2, **{name: 3 * value for name, value in own.items()}}

    def each(self) -> Sequence[tuple[ReplicaId, Mapping[str, float]]]:
        return [(ReplicaId("other"), {"connections": 2})]


def test_a_quantile_lies_evenly_within_its_bucket() -> None:
    assert quantile_ms(BOUNDS, [100, 0, 0, 0], 0.5) == 0.5
    assert quantile_ms(BOUNDS, [90, 0, 10, 0], 0.99) == 91.0
    assert quantile_ms(BOUNDS, [0, 0, 0, 5], 0.5) == 100.0


def test_nothing_counted_has_no_quantile() -> None:
    assert quantile_ms(BOUNDS, [0, 0, 0, 0], 0.99) is None
    assert "latencyP99Ms" not in readable({"connections": 1})


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(any), st.floats(0.01, 1.0))
def test_a_quantile_never_leaves_the_bucket_it_is_in(counts: list[int], share: float) -> None:
    value = quantile_ms(BOUNDS, counts, share)
    assert value is not None
    wanted, below = sum(counts) * share, 0
    for bound, lower, count in zip((*BOUNDS, 0.1), (0.0, *BOUNDS), counts, strict=True):
        below += count
        if below >= wanted:
            assert lower * 1000 - 0.01 <= value <= bound * 1000 + 0.01
            return


async def test_rates_are_of_the_last_seconds_and_quiet_down(slow_world: World) -> None:
    server = await slow_world.start(replicas=OneOther(), gauges=lambda: {"memoryBytes": 1000})
    clock = server.clock
    assert isinstance(clock, TestClock)
    async with (
        open_peer(server.address, server.token("root", "admin"), query="?own=0") as admin,
        open_peer(server.address, server.token()) as phone,
    ):
        await phone.next("feed.snapshot")
        await admin.call("stats.subscribe", {"everyMs": 1000})
        for number in range(6):
            server.board.show(ALICE, a=str(number))
            await phone.next("feed.delta")
            await phone.call("connection.ping")
            await clock.advance(1.0, quiet_s=0.02)
        await admin.call("connection.ping")
        busy = _last(admin.unread)
        await clock.advance(10.0, quiet_s=0.02)
        await admin.call("connection.ping")
        quiet = _last(admin.unread)

    assert busy["replicas"] == 2
    assert busy["connections"] == 6
    assert busy["memoryBytes"] == 3000
    assert 1.5 <= cast("float", busy["updatesPerS"]) <= 4.5, "one a second, and twice as many elsewhere"
    assert busy["deliveriesPerS"] == busy["updatesPerS"]
    assert cast("float", busy["latencyP50Ms"]) <= cast("float", busy["latencyP99Ms"])
    rows = cast("list[dict[str, object]]", busy["replicaList"])
    assert [(row["replica"], row["connections"]) for row in rows] == [("r1", 2), ("other", 2)]
    talkers = cast("list[dict[str, object]]", busy["topTalkers"])
    assert talkers[0]["user"] == ALICE
    assert quiet["updatesPerS"] == quiet["deliveriesPerS"] == 0
    assert "latencyP99Ms" not in quiet
    assert not [name for name in busy if "≤" in name], "buckets stay among replicas"


@pytest.mark.parametrize("users", [3, 3000])
def test_talkers_are_counted_up_to_a_bound(users: int) -> None:
    counters = Counters()
    for number in range(users):
        counters.heard(UserId(f"user-{number}"))
    counters.heard(UserId("user-0"))
    heard = counters.take_talkers()
    assert heard[UserId("user-0")] == 2
    assert len(heard) == min(users, 1000)
    assert counters.messages_in == users + 1
    assert counters.take_talkers() == {}


def _last(messages: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    updates = [message for message in messages if message.get("method") == "stats.update"]
    return cast("Mapping[str, object]", updates[-1]["params"])
