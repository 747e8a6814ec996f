"""The table of timers: complete, and consistent in itself."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.config.profiles import PROFILES, Profile

EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)


def test_names() -> None:
    assert set(PROFILES) == {"laptop", "kubernetes", "test"}
    assert all(name == profile.name for name, profile in PROFILES.items())


@EACH
def test_the_timers_fit_together(profile: Profile) -> None:
    numbers = [value for value in dataclasses.astuple(profile) if not isinstance(value, str)]
    assert all(number >= 0 for number in numbers)
    assert profile.node_monitor_grace_s >= 3 * profile.heartbeat_interval_s, "two lost heartbeats are no death"
    assert profile.node_monitor_period_s < profile.node_monitor_grace_s <= profile.node_startup_grace_s
    assert profile.crash_backoff_initial_s < profile.crash_backoff_max_s < profile.crash_backoff_reset_s
    assert profile.scheduler_backoff_initial_s < profile.scheduler_backoff_max_s
    assert profile.secondary_eviction_rate_per_s <= profile.eviction_rate_per_s
    assert 0 < profile.unhealthy_zone_fraction < 1


def test_kubernetes_has_the_numbers_of_kubernetes() -> None:
    profile = PROFILES["kubernetes"]
    assert (profile.heartbeat_interval_s, profile.node_monitor_period_s, profile.node_monitor_grace_s) == (10, 5, 40)
    assert (profile.eviction_toleration_s, profile.eviction_rate_per_s) == (300, 0.1)
    assert (profile.crash_backoff_initial_s, profile.crash_backoff_max_s) == (10, 300)
    assert (profile.scheduler_backoff_initial_s, profile.scheduler_backoff_max_s) == (1, 10)
    assert (profile.stop_grace_s, profile.large_zone_threshold, profile.unhealthy_zone_fraction) == (30, 50, 0.55)
