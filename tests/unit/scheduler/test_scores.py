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
    assert scores.spread(np.array(on_host, np.int64), []).tolist() == expected


def test_spread_over_zones_prefers_the_emptier_zone() -> None:
    zone = scores.Domain(codes=np.array([0, 0, 1]), counts=np.array([3, 1]))
    hosts = np.array([2, 1, 1], np.int64)
    # hosts weigh log(5), zones log(4): 2*1.609+2 + 3*1.386+4 = 13, 11, 1.609+2 + 1.386+4 = 8
    assert scores.spread(hosts, [zone]).tolist() == [100 * (13 + 8 - 13) // 13, 100 * (13 + 8 - 11) // 13, 100]


def test_a_node_without_a_zone_neither_gains_nor_loses() -> None:
    zone = scores.Domain(codes=np.array([0, -1]), counts=np.array([0]))
    unzoned = scores.Domain(codes=np.array([-1, -1]), counts=np.array([], np.int64))
    # 0 + 2 + 0 + 4 = 6 against 0 + 2
    assert scores.spread(np.array([0, 0]), [zone, unzoned]).tolist() == [100 * 2 // 6, 100]
