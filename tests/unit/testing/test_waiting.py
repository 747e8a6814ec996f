"""What a test that waits for a cluster takes for "not yet"."""

from __future__ import annotations

import pytest

from cluster.api.errors import Unavailable
from cluster.testing.cluster import Cluster
from cluster.testing.processes import NotRunning

CLUSTER = Cluster.__new__(Cluster)
"""Nothing of it is asked as long as the time is not over."""


def test_a_master_that_is_away_and_a_process_that_is_down_are_waited_for() -> None:
    looks: list[int | Exception] = [0, Unavailable("no master"), NotRunning("node-1 is not running"), 7]

    def pid() -> int:
        look = looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look

    CLUSTER.wait_until(lambda: pid() == 7, "it has been started again", every_s=0.0)
    assert looks == []


def test_a_mistake_of_the_test_is_not_waited_for() -> None:
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError):
        CLUSTER.wait_until(lambda: nothing["typo"], "nothing")
