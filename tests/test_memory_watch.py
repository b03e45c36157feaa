"""Over its mark of memory, the process lets idle sessions go, then puts new connections off."""

from __future__ import annotations

from server.memory_watch import MemoryWatch, resident_bytes


class House:
    """What the watch looks at and acts on."""

    def __init__(self, idle: int) -> None:
        self.resident = 0
        self.idle = idle
        self.told: list[bool] = []
        self.collected = 0
        self.watch = MemoryWatch(
            1000,
            resident=lambda: self.resident,
            shed=self.shed,
            overloaded=self.told.append,
            collect=self.collect,
        )

    def collect(self) -> None:
        self.collected += 1

    def shed(self, count: int) -> int:
        gone = min(count, self.idle)
        self.idle -= gone
        return gone

    def look(self, resident: int) -> None:
        self.resident = resident
        self.watch.look()


def test_below_the_mark_nothing_happens() -> None:
    house = House(idle=500)
    house.look(1000)
    assert (house.idle, house.told) == (500, [])


def test_over_the_mark_garbage_goes_first_once_on_the_way_up() -> None:
    house = House(idle=500)
    house.look(1001)
    assert (house.collected, house.idle) == (1, 500)
    house.look(1001)
    assert house.collected == 1
    assert house.idle < 500
    house.look(900)
    house.look(1001)
    assert house.collected == 2


def test_over_the_mark_idle_sessions_go_before_anybody_is_put_off() -> None:
    house = House(idle=500)
    house.look(1001)
    house.look(1001)
    assert house.idle < 500
    assert house.told == []


def test_with_nobody_idle_new_connections_are_put_off_until_it_is_well_below() -> None:
    house = House(idle=100)
    for resident in (1100, 1100, 1100, 990, 949, 990):
        house.look(resident)
    assert house.idle == 0
    assert house.told == [True, False]


def test_the_systems_own_figure_is_that_of_a_process() -> None:
    found = resident_bytes()
    assert found is None or 1 << 20 < found < 1 << 36
