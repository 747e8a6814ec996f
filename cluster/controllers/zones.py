"""The breaker: when many nodes fail at once, it is probably not the nodes.

Kubernetes' rules (node_lifecycle_controller.go, handleDisruption and ComputeZoneState). Each zone is

  FULL     no node is ready
  PARTIAL  more than 2 nodes are not ready, and they are at least 55 % of the zone
  NORMAL   otherwise

and nodes in it are evicted at the normal rate; in a PARTIAL zone at the secondary rate, or, if it is small, not at all.
If all zones are FULL, it is we who are cut off: all evictions stop, what was marked for eviction is unmarked, and when
any zone recovers all timers start again.

  2 of 3 nodes dead  -> NORMAL        -> their pods are evicted
  3 of 5 nodes dead  -> PARTIAL, small -> no eviction
  3 of 3 nodes dead  -> all FULL       -> stop; after the recovery everyone has a whole grace again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class ZoneState(Enum):
    """How much of a zone has failed."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass(slots=True)
class Census:
    """Nodes of one zone."""

    ready: int = 0
    not_ready: int = 0

    @property
    def size(self) -> int:
        return self.ready + self.not_ready


@dataclass(frozen=True, slots=True)
class BreakerRates:
    """What the breaker chooses from; see the timer profiles."""

    normal_per_s: float
    secondary_per_s: float
    large_zone_threshold: int
    """A zone of more nodes than this is large."""
    unhealthy_fraction: float


def take_census(nodes: Iterable[tuple[str, bool]]) -> dict[str, Census]:
    """Counts (zone, ready) by zone."""
    zones: dict[str, Census] = {}
    for zone, ready in nodes:
        census = zones.setdefault(zone, Census())
        if ready:
            census.ready += 1
        else:
            census.not_ready += 1
    return zones


def zone_state(census: Census, unhealthy_fraction: float) -> ZoneState:
    """The state of a zone of at least one node."""
    if census.ready == 0 and census.not_ready > 0:
        return ZoneState.FULL
    if census.not_ready > 2 and census.not_ready >= unhealthy_fraction * census.size:
        return ZoneState.PARTIAL
    return ZoneState.NORMAL


def eviction_rate_per_s(state: ZoneState, size: int, rates: BreakerRates) -> float:
    """Nodes per second whose pods may be evicted in a zone of that state and size."""
    if state is not ZoneState.PARTIAL:
        return rates.normal_per_s
    return rates.secondary_per_s if size > rates.large_zone_threshold else 0.0


class TokenBucket:
    """At most one now, and then `rate_per_s`; times are monotonic seconds."""

    __slots__ = ("_at", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._tokens = 1.0
        self._at = now

    def set_rate(self, rate_per_s: float, now: float) -> None:
        """From now on that many per second; 0 closes the bucket, whatever it holds."""
        self._refill(now)
        self._rate_per_s = rate_per_s

    def take(self, now: float) -> bool:
        """Takes a token, if there is one."""
        self._refill(now)
        if self._rate_per_s <= 0 or self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _refill(self, now: float) -> None:
        self._tokens = min(1.0, self._tokens + max(0.0, now - self._at) * self._rate_per_s)
        self._at = now


class Turn(Enum):
    """What has just happened to the cluster as a whole."""

    NONE = "none"
    ALL_FAILED = "all zones have failed: unmark everything"
    RECOVERED = "a zone has recovered: restart all timers"


class Breaker:
    """Says, zone by zone, whether one more node may be evicted."""

    def __init__(self, rates: BreakerRates) -> None:
        self._rates = rates
        self._buckets: dict[str, TokenBucket] = {}
        self.all_failed = False
        self.states: dict[str, ZoneState] = {}

    def observe(self, zones: Mapping[str, Census], now: float) -> Turn:
        """Takes the state of all zones at one moment."""
        self.states = {zone: zone_state(census, self._rates.unhealthy_fraction) for zone, census in zones.items()}
        self._buckets = {zone: bucket for zone, bucket in self._buckets.items() if zone in zones}
        for zone, census in zones.items():
            rate = eviction_rate_per_s(self.states[zone], census.size, self._rates)
            if zone in self._buckets:
                self._buckets[zone].set_rate(rate, now)
            else:
                self._buckets[zone] = TokenBucket(rate, now)
        before = self.all_failed
        self.all_failed = bool(zones) and all(state is ZoneState.FULL for state in self.states.values())
        if self.all_failed == before:
            return Turn.NONE
        return Turn.ALL_FAILED if self.all_failed else Turn.RECOVERED

    def may_evict(self, zone: str, now: float) -> bool:
        """Takes one eviction from the zone's budget, if it has any."""
        bucket = self._buckets.get(zone)
        return not self.all_failed and bucket is not None and bucket.take(now)
