"""How many of a group have to be placed at once."""

from __future__ import annotations

from cluster.scheduler.gangs import Gangs
from cluster.scheduler.lots import GangKey

KEY, OTHER = GangKey("default", "one"), GangKey("default", "two")


def test_those_that_have_a_place_need_not_be_placed_again() -> None:
    gangs = Gangs()
    for i in range(4):
        gangs.put(KEY, f"p{i}", 3, 60.0, placed=False)
    assert (gangs.need(KEY), gangs.size(KEY), gangs.timeout_s(KEY)) == (3, (4, 3), 60.0)
    gangs.place("p0", placed=True)
    gangs.place("p0", placed=True)
    assert gangs.need(KEY) == 2
    gangs.put(KEY, "p1", 3, 60.0, placed=True)
    gangs.place("p2", placed=True)
    gangs.place("p3", placed=True)
    assert gangs.need(KEY) == 0
    gangs.place("p3", placed=False)
    assert gangs.remove("p2") == KEY
    assert gangs.need(KEY) == 1


def test_the_largest_number_that_a_member_names_counts() -> None:
    gangs = Gangs()
    gangs.put(KEY, "p0", 2, 60.0, placed=False)
    gangs.put(KEY, "p1", 5, 60.0, placed=False)
    assert gangs.need(KEY) == 5
    gangs.remove("p1")
    assert gangs.need(KEY) == 2


def test_a_pod_that_comes_again_in_another_group_has_left_the_first() -> None:
    gangs = Gangs()
    gangs.put(KEY, "p0", 1, 60.0, placed=True)
    gangs.put(OTHER, "p0", 2, 60.0, placed=False)
    assert (KEY in gangs, gangs.need(OTHER)) == (False, 2)
    assert gangs.remove("p0") == OTHER
    assert gangs.remove("p0") is None
    assert (gangs.need(OTHER), gangs.size(OTHER)) == (0, (0, 0))
