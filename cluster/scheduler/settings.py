"""What can be set about the scheduler: by the timer profile, and by a file (`--scheduler-config`), which wins.

# scheduler.toml
bind_batch = 500

[profiles.gpu]                       # pods with schedulerName: gpu
based_on = "binpack"
filters = ["away-from-crowds"]       # further ones, from plug-ins
weights = {NodeAffinity = 5, "mine.scores:by_rank" = 2}
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

DEFAULT_SCHEDULER = "default-scheduler"
"""The name that admission writes into a pod that names no scheduler."""
BINPACK = "binpack"
"""The profile that fills nodes up instead of spreading."""


MAX_WEIGHT = 1000
"""Of a score."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each score (0..100) counts in the sum; 0: not at all. The numbers are Kubernetes'."""

    least_allocated: int = 1
    """Free cpu and memory: keeps nodes evenly loaded."""
    most_allocated: int = 0
    """Cpu and memory in use: fills up nodes one after the other."""
    binpack: int = 0
    """The same with Nomad's formula, which prefers nodes that are full in both."""
    balanced_allocation: int = 1
    """Cpu and memory used in like proportion: avoids stranding one of them."""
    taint_toleration: int = 1
    """Fewer PreferNoSchedule taints that the pod does not tolerate."""
    node_affinity: int = 2
    """Preferred node affinity."""
    spread: int = 2
    """Fewer pods of the same service or controller on the host, in the zone and in the rack; or what the pod's own
    constraints with ScheduleAnyway ask for."""
    inter_pod_affinity: int = 2
    """Preferred affinity to pods, its own and that of pods that are there."""

    def __post_init__(self) -> None:
        """Raises ValueError for a weight that makes no sense."""
        for each in fields(self):
            weight = getattr(self, each.name)
            if not 0 <= weight <= MAX_WEIGHT:
                raise ValueError(f"the weight {each.name} is {weight}; it must be from 0 to {MAX_WEIGHT}")

    @property
    def packs(self) -> bool:
        """These weights fill up nodes rather than keep them evenly loaded."""
        return self.most_allocated + self.binpack > self.least_allocated


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """A profile as a file describes it: what differs from the one that it is based on."""

    based_on: Literal["default-scheduler", "binpack"] | None = None
    """None: on the one of the same name, if that is one of these two; else on default-scheduler."""
    weights: dict[str, int] = field(default_factory=dict)
    """Of scores, 0 to 100, by name: those that `podium why` shows, and plug-ins ("name" or "module:function")."""
    filters: tuple[str, ...] = ()
    """Further filters, from plug-ins: "name" or "module:function"."""
    without_filters: tuple[str, ...] = ()
    """Filters that are left out, by the names that `podium why` shows."""


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Settings of one scheduler."""

    profiles: dict[str, ProfileSettings] = field(default_factory=dict)
    """By the name that pods have in spec.schedulerName. default-scheduler and binpack are there in any case."""
    backoff_initial_s: float = 1.0
    """How long a pod waits after its binding failed, and a gang after it did not fit; doubles with each time."""
    backoff_max_s: float = 10.0
    unschedulable_flush_s: float = 60.0
    """A pod that fits nowhere is looked at again after this, even if nothing that could help was heard of."""
    assume_ttl_s: float = 30.0
    """How long a written binding counts as done without being seen in the watch. Kubernetes' number."""
    bind_batch: int = 250
    """At most so many bindings in one write: large enough that the log's sync is shared, small enough that the
    first pods of a crowd do not wait for the last."""
    binds_in_flight: int = 4
    """At most so many writes at once; pods wait in the queue meanwhile, and the next batch gets fuller."""
    repeat_event_s: float = 60.0
    """A pod that stays pending for the same reason gets its FailedScheduling event counted up at most this often."""
    decisions_kept: int = 10_000
    """So many of the last decisions are remembered, for questions."""

    def __post_init__(self) -> None:
        for name, low, high in (("bind_batch", 1, 2000), ("binds_in_flight", 1, 64), ("decisions_kept", 0, 1_000_000)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, but must be from {low} to {high}")
        for name in ("backoff_initial_s", "backoff_max_s", "unschedulable_flush_s", "assume_ttl_s", "repeat_event_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 0")
