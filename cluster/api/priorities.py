"""Priorities of pods: the numbers, and the two classes that every cluster has. Kubernetes' values."""

from __future__ import annotations

from cluster.pb.v1 import core_pb2 as core

PREEMPT_LOWER_PRIORITY, NEVER = "PreemptLowerPriority", "Never"
PREEMPTION_POLICIES = (PREEMPT_LOWER_PRIORITY, NEVER)
DEFAULT_PRIORITY = 0
"""Of pods that name no class, where no class is the default."""
HIGHEST_USER_PRIORITY = 1_000_000_000
"""What lies above is the system's."""
CRITICAL_PRIORITY = 2 * HIGHEST_USER_PRIORITY
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {
    "system-cluster-critical": (2_000_000_000, "For what the cluster needs, and that may move to another node."),
    "system-node-critical": (2_000_001_000, "For what its node cannot do without."),
}
"""Name -> value and description of the classes that always exist."""


def priority_of(pod: core.Pod) -> int:
    """Pods with a greater one come first; 0 if it does not say."""
    return pod.spec.priority


def is_critical(pod: core.Pod) -> bool:
    """Whether the cluster or its node cannot do without it."""
    return pod.spec.priority >= CRITICAL_PRIORITY


def preempts(pod: core.Pod) -> bool:
    """Whether pods of a lower priority may have to make room for it."""
    return pod.spec.preemptionPolicy != NEVER


def system_class(name: str) -> core.PriorityClass:
    """One of the classes that always exist, as a new object."""
    value, description = SYSTEM_CLASSES[name]
    return core.PriorityClass(
        metadata=core.ObjectMeta(name=name),
        value=value,
        description=description,
        preemptionPolicy=PREEMPT_LOWER_PRIORITY,
    )
