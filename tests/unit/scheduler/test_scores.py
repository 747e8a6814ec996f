"""Each score by a table; the numbers are worked by hand from Kubernetes' formulas."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.scheduler import scores
from cluster.scheduler.snapshot import IntArray


def rows(*values: tuple[int, int]) -> IntArray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("allocatable", "used", "expected"),
    [
        ((4000, 100), (0, 0), 100),
        ((4000, 100), (2000, 50), 50),
        ((4000, 100), (4000, 100), 0),
        ((4000, 100), (1000, 0), 87),  # (75 + 100) // 2
        ((3000, 100), (1000, 0), 83),  # (66 + 100) // 2: each is cut to a whole number first
        ((4000, 100), (5000, 0), 50),  # overdrawn counts as full
        ((0, 100), (0, 0), 50),
        ((1 << 56, 1 << 56), (1, 1), 99),
    ],
)
def test_least_allocated(allocatable: tuple[int, int], used: tuple[int, int], expected: int) -> None:
    assert scores.least_allocated(rows(allocatable), rows(used)).tolist() == [expected]


@pytest.mark.parametrize(
    ("allocatable", "used", "expected"),
    [
        ((1000, 1000), (0, 0), 100),
        ((1000, 1000), (500, 500), 100),
        ((1000, 1000), (500, 250), 75),
        ((1000, 1000), (250, 500), 75),
        ((1000, 1000), (1000, 500), 0),
        ((0, 1000), (0, 500), 0),
    ],
)
def test_balanced_allocation(allocatable: tuple[int, int], used: tuple[int, int], expected: int) -> None:
    assert scores.balanced_allocation(rows(allocatable), rows(used)).tolist() == [expected]


@pytest.mark.parametrize(
    ("intolerable", "expected"),
    [([0, 0], [100, 100]), ([0, 1], [100, 0]), ([0, 1, 2], [100, 50, 0]), ([3, 1, 0], [0, 67, 100]), ([], [])],
)
def test_taint_toleration(intolerable: list[int], expected: list[int]) -> None:
    assert scores.taint_toleration(np.array(intolerable, np.int64)).tolist() == expected


@pytest.mark.parametrize(
    ("allocatable", "used", "expected"),
    [
        ((4000, 100), (0, 0), 0),
        ((4000, 100), (1000, 0), 12),  # (25 + 0) // 2
        ((4000, 100), (4000, 100), 100),
        ((4000, 100), (5000, 0), 50),  # overdrawn counts as full
        ((0, 100), (0, 50), 25),
    ],
)
def test_most_allocated(allocatable: tuple[int, int], used: tuple[int, int], expected: int) -> None:
    assert scores.most_allocated(rows(allocatable), rows(used)).tolist() == [expected]


@pytest.mark.parametrize(
    ("allocatable", "used", "expected"),
    [
        ((1000, 1000), (0, 0), 0),
        ((1000, 1000), (1000, 1000), 100),
        ((1000, 1000), (500, 500), 75),  # (20 - 2 * 3.1623) / 18
        ((1000, 1000), (1000, 0), 50),  # (20 - 11) / 18
        ((1000, 1000), (2000, 2000), 100),
        ((0, 0), (0, 0), 100),  # nothing is free
    ],
)
def test_binpack(allocatable: tuple[int, int], used: tuple[int, int], expected: int) -> None:
    assert scores.binpack(rows(allocatable), rows(used)).tolist() == [expected]


@pytest.mark.parametrize(
    ("liking", "expected"), [([], []), ([0, 0], [0, 0]), ([10, 30, 0], [33, 100, 0]), ([7, 7], [100, 100])]
)
def test_node_affinity(liking: list[int], expected: list[int]) -> None:
    assert scores.node_affinity(np.array(liking, np.int64)).tolist() == expected


@pytest.mark.parametrize(
    ("liking", "expected"),
    [([], []), ([5, 5], [0, 0]), ([0, 1, 3], [0, 33, 100]), ([-10, 0, 10], [0, 50, 100]), ([-3, -1], [0, 100])],
)
def test_inter_pod_affinity(liking: list[int], expected: list[int]) -> None:
    assert scores.inter_pod_affinity(np.array(liking, np.int64)).tolist() == expected


def level(counts: list[int], different: int, max_skew: int, has: list[bool] | None = None) -> scores.Level:
    there = np.array(has if has is not None else [True] * len(counts), np.bool_)
    return scores.Level(np.array(counts, np.int64), there, different, max_skew)


@pytest.mark.parametrize(
    ("on_host", "expected"),
    [
        ([], []),
        ([0], [100]),
        ([0, 0, 0], [100, 100, 100]),
        # log(3 + 2) = 1.609: 2, 3, 5 -> 100 * (5 + 2 - x) // 5
        ([0, 1, 2], [100, 80, 40]),
        ([5, 5], [100, 100]),
    ],
)
def test_spread_over_hosts(on_host: list[int], expected: list[int]) -> None:
    hosts = level(on_host, len(on_host), 3)
    assert scores.spread([hosts], np.zeros(len(on_host), np.bool_)).tolist() == expected


NOBODY = np.zeros(3, np.bool_)


def test_spread_over_zones_prefers_the_emptier_zone() -> None:
    hosts, zones = level([2, 1, 1], 3, 3), level([3, 3, 1], 2, 5)
    # hosts weigh log(5), zones log(4): 2*1.609+2 + 3*1.386+4 = 13, 11, 1.609+2 + 1.386+4 = 8
    assert scores.spread([hosts, zones], NOBODY).tolist() == [100 * (13 + 8 - 13) // 13, 100 * (13 + 8 - 11) // 13, 100]


def test_a_node_without_a_zone_neither_gains_nor_loses() -> None:
    hosts, zones = level([0, 0], 2, 3), level([0, 0], 1, 5, [True, False])
    # 0 + 2 + 0 + 4 = 6 against 0 + 2
    assert scores.spread([hosts, zones], NOBODY[:2]).tolist() == [100 * 2 // 6, 100]


def test_a_node_that_is_ignored_gets_nothing_and_is_no_measure_for_others() -> None:
    zones = level([0, 1, 99], 2, 1)
    # 0, 1: 100 * (1 + 0 - x) // 1
    assert scores.spread([zones], np.array([False, False, True])).tolist() == [100, 0, 0]
    assert scores.spread([zones], np.ones(3, np.bool_)).tolist() == [0, 0, 0]
