"""What can be set about the scheduler. The times come from the timer profile, the rest has one good value."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

DEFAULT_SCHEDULER = "default-scheduler"
"""The name that admission writes into a pod that names no scheduler."""

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
class SchedulerSettings:
    """Settings of one scheduler."""

    scheduler_name: str = DEFAULT_SCHEDULER
    """Only pods whose spec.schedulerName says this are placed."""
    weights: Weights = field(default_factory=Weights)
    backoff_initial_s: float = 1.0
    """How long a pod waits after its first failed attempt; doubles with each."""
    backoff_max_s: float = 10.0
    unschedulable_flush_s: float = 60.0
    """A pod that fits nowhere is tried again after this, even if nothing that could help was heard of."""
    assume_ttl_s: float = 30.0
    """How long a written binding counts as done without being seen in the watch. Kubernetes' number."""
    bind_batch: int = 250
    """At most so many bindings in one write: large enough that the log's sync is shared, small enough that the
    first pods of a crowd do not wait for the last."""
    binds_in_flight: int = 4
    """At most so many writes at once; pods wait in the queue meanwhile, and the next batch gets fuller."""
    repeat_event_s: float = 60.0
    """A pod that stays pending for the same reason gets its FailedScheduling event counted up at most this often."""
