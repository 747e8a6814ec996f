"""Back-off: grows, stays below its limit, jitters with the given dice only."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.actor.backoff import Backoff


def test_it_doubles_up_to_its_limit_and_begins_again() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 0.5


def test_it_never_overflows() -> None:
    backoff = Backoff(1.0, 10.0, factor=1e300)
    assert [backoff.next() for _ in range(4)] == [1.0, 10.0, 10.0, 10.0]


@given(seed=st.integers(0, 1000), jitter=st.floats(0.01, 1.0))
def test_jitter_stretches_by_at_most_its_fraction(seed: int, jitter: float) -> None:
    backoff = Backoff(1.0, 8.0, jitter=jitter, rng=random.Random(seed))
    for plain in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert plain <= backoff.next() <= plain * (1 + jitter)


def test_the_same_dice_give_the_same_delays() -> None:
    first, second = (Backoff(1.0, 8.0, jitter=0.5, rng=random.Random(7)) for _ in range(2))
    assert [first.next() for _ in range(4)] == [second.next() for _ in range(4)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial_s": -1, "max_s": 1},
        {"initial_s": 2, "max_s": 1},
        {"initial_s": 1, "max_s": 2, "factor": 0.5},
        {"initial_s": 1, "max_s": 2, "jitter": 0.1},
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Backoff(**arguments)
