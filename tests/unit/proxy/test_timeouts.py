"""Time-outs: of the tries, cut or continued, and of connections on which nothing moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialing import DIAL_TIMEOUTS_S
from proxy.timeouts import Timeouts


def test_the_ordinary_tries() -> None:
    assert Timeouts().tries_s(DIAL_TIMEOUTS_S) == (0.25, 0.5, 1.0, 2.0)


def test_cut_and_continued() -> None:
    assert Timeouts(connect_s=1).tries_s(DIAL_TIMEOUTS_S) == (0.25, 0.5, 0.25)
    assert Timeouts(connect_s=10).tries_s(DIAL_TIMEOUTS_S) == (0.25, 0.5, 1.0, 2.0, 4.0, 2.25)
    assert Timeouts(connect_s=3).tries_s(()) == (3,)


@given(st.integers(1, 7 * 86400))
def test_all_tries_together_take_what_was_asked_for(seconds: int) -> None:
    tries = Timeouts(connect_s=seconds).tries_s(DIAL_TIMEOUTS_S)
    assert sum(tries) == seconds
    assert all(one > 0 for one in tries)


def test_who_is_watched() -> None:
    assert not Timeouts(connect_s=1, drain_s=1).watched
    assert Timeouts(idle_s=1).watched
    assert Timeouts(first_byte_s=1).watched


@pytest.mark.parametrize(
    ("now", "quiet_since", "has_moved", "why"),
    [
        (4.9, 0.0, False, ""),
        (5.0, 0.0, False, "first-byte"),
        (5.0, 0.0, True, ""),
        (10.0, 0.0, True, "idle"),
        (10.0, 0.0, False, "idle"),
        (10.0, 1.0, True, ""),
    ],
)
def test_why_a_connection_is_cut(now: float, quiet_since: float, has_moved: bool, why: str) -> None:
    timeouts = Timeouts(idle_s=10.0, first_byte_s=5.0)
    assert timeouts.overdue(now, began_at=0.0, quiet_since=quiet_since, has_moved=has_moved) == why
    assert Timeouts().overdue(now, began_at=0.0, quiet_since=quiet_since, has_moved=has_moved) == ""
