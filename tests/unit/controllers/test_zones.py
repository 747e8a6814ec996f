"""The breaker, by its worked examples."""

from __future__ import annotations

import pytest

from cluster.controllers.zones import (
    Breaker,
    BreakerRates,
    Census,
    TokenBucket,
    Turn,
    ZoneState,
    eviction_rate_per_s,
    take_census,
    zone_state,
)

RATES = BreakerRates(normal_per_s=10, secondary_per_s=1, large_zone_threshold=50, unhealthy_fraction=0.55)


@pytest.mark.parametrize(
    ("ready", "dead", "state"),
    [
        (3, 0, ZoneState.NORMAL),
        (1, 2, ZoneState.NORMAL),
        (2, 3, ZoneState.PARTIAL),
        (3, 3, ZoneState.NORMAL),
        (9, 11, ZoneState.PARTIAL),
        (0, 1, ZoneState.FULL),
        (0, 3, ZoneState.FULL),
    ],
)
def test_zone_state(ready: int, dead: int, state: ZoneState) -> None:
    assert zone_state(Census(ready, dead), 0.55) is state


@pytest.mark.parametrize(
    ("state", "size", "rate"),
    [
        (ZoneState.NORMAL, 3, 10),
        (ZoneState.FULL, 3, 10),
        (ZoneState.PARTIAL, 50, 0),
        (ZoneState.PARTIAL, 51, 1),
    ],
)
def test_rates(state: ZoneState, size: int, rate: float) -> None:
    assert eviction_rate_per_s(state, size, RATES) == rate


def nodes(ready: int, dead: int, zone: str = "") -> list[tuple[str, bool]]:
    return [(zone, True)] * ready + [(zone, False)] * dead


def test_two_of_three_dead_are_evicted_at_the_normal_rate() -> None:
    breaker = Breaker(RATES)
    assert breaker.observe(take_census(nodes(1, 2)), 0.0) is Turn.NONE
    assert breaker.may_evict("", 0.0)
    assert not breaker.may_evict("", 0.05)
    assert breaker.may_evict("", 0.1)


def test_three_of_five_dead_are_not_evicted() -> None:
    breaker = Breaker(RATES)
    breaker.observe(take_census(nodes(2, 3)), 0.0)
    assert not any(breaker.may_evict("", now) for now in (0.0, 10.0, 1000.0))


def test_three_of_three_dead_stop_everything_until_one_is_back() -> None:
    breaker = Breaker(RATES)
    assert breaker.observe(take_census(nodes(3, 0)), 0.0) is Turn.NONE
    assert breaker.observe(take_census(nodes(0, 3)), 1.0) is Turn.ALL_FAILED
    assert not breaker.may_evict("", 100.0)
    assert breaker.observe(take_census(nodes(0, 3)), 2.0) is Turn.NONE
    assert breaker.observe(take_census(nodes(1, 2)), 3.0) is Turn.RECOVERED
    assert breaker.may_evict("", 3.0)


def test_a_dead_zone_is_evicted_while_another_lives() -> None:
    breaker = Breaker(RATES)
    assert breaker.observe(take_census(nodes(0, 3, "a") + nodes(3, 0, "b")), 0.0) is Turn.NONE
    assert breaker.states == {"a": ZoneState.FULL, "b": ZoneState.NORMAL}
    assert breaker.may_evict("a", 0.0)


def test_no_nodes_are_no_failure() -> None:
    assert Breaker(RATES).observe({}, 0.0) is Turn.NONE


def test_token_bucket_holds_one() -> None:
    bucket = TokenBucket(0.1, 0.0)
    assert bucket.take(0.0)
    assert not bucket.take(9.9)
    assert bucket.take(10.0)
    assert bucket.take(100.0)
    assert not bucket.take(100.0), "what was not used does not pile up"
    bucket.set_rate(0.0, 200.0)
    assert not bucket.take(300.0)
