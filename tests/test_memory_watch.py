"""Over its mark of memory, the process lets idle sessions go, then puts new connections off."""

from __future__ import annotations

from server.memory_watch import MemoryWatch, resident_bytes


class House:
    """What the watch looks at and acts on."""

    def __init__(self, idle: int) -> None:
        self.resident = 0
        self.idle = idle
        self.told: list[bool] = []
        self.watch = MemoryWatch(
            1000, resident=lambda: self.resident, shed=self.shed, overloaded=self.told.append
        )

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


def test_over_the_mark_idle_sessions_go_first() -> None:
    house = House(idle=500)
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
