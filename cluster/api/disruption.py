"""What a disruption budget says of a pod, for whoever evicts, counts or looks ahead.

A budget covers the pods of its namespace that its selector selects: an absent selector none, an empty one all
(policy/v1). Its status is reckoned by the disruption controller and spent by the master, one eviction at a time; the
condition DisruptionAllowed says in words what `disruptionsAllowed` says in a number. Pure.
"""

from __future__ import annotations

from cluster.api.conditions import FALSE, TRUE, set_condition
from cluster.api.pods import PENDING, is_active
from cluster.api.selectors import pod_selector_of
from cluster.pb.v1 import core_pb2 as core

IF_HEALTHY_BUDGET, ALWAYS_ALLOW = "IfHealthyBudget", "AlwaysAllow"
UNHEALTHY_POLICIES = (IF_HEALTHY_BUDGET, ALWAYS_ALLOW)
DISRUPTION_ALLOWED = "DisruptionAllowed"
"""The type of a budget's condition."""


def covers(budget: core.PodDisruptionBudget, pod: core.Pod) -> bool:
    """Whether the budget speaks of this pod."""
    same = budget.metadata.namespace == pod.metadata.namespace
    return same and pod_selector_of(budget.spec).matches(pod.metadata.labels)


def needs_budget(pod: core.Pod) -> bool:
    """Whether evicting the pod disrupts anything: not if it has ended, does not run yet, or is on its way out."""
    return is_active(pod) and pod.status.phase != PENDING


def unhealthy_policy(budget: core.PodDisruptionBudget) -> str:
    """When pods that run and are not ready may be evicted; IfHealthyBudget if the budget does not say."""
    return budget.spec.unhealthyPodEvictionPolicy or IF_HEALTHY_BUDGET


def is_current(budget: core.PodDisruptionBudget) -> bool:
    """Whether its status was reckoned for what it asks now."""
    return budget.status.observedGeneration >= budget.metadata.generation


def set_disruption_allowed(status: core.PodDisruptionBudgetStatus, now_s: float) -> None:
    """Makes the condition say what the number says."""
    allowed = status.disruptionsAllowed > 0
    value, reason = (TRUE, "SufficientPods") if allowed else (FALSE, "InsufficientPods")
    set_condition(status, DISRUPTION_ALLOWED, value, now_s, reason)
    for condition in status.conditions:
        if condition.type == DISRUPTION_ALLOWED:
            condition.observedGeneration = status.observedGeneration
