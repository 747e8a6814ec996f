"""Evicting a pod: deleting it as far as the disruption budget that covers it allows.

The table, Kubernetes' (pkg/registry/core/pod/storage/eviction.go); the first line that fits:

    pod has ended, is Pending, or is being deleted     goes, and costs nothing
    no budget covers it                                goes, and costs nothing
    several do                                         refused: nobody knows which one to spend from
    pod is not ready, policy AlwaysAllow               goes, and costs nothing: it was not counted as healthy
    pod is not ready, and so many pods are healthy
      as the budget desires, at least one              goes, and costs nothing
    budget was changed and not yet counted again       TooManyRequests, retry after 10 s
    more than 2000 evictions not yet seen              Forbidden: the disruption controller does not keep up
    budget allows none                                 TooManyRequests
    else                                               goes; the budget allows one less, and notes the pod

What is spent and the deletion of the pod are one revision, so that two evictions can never spend the same allowance.
The disruption controller counts a noted pod as gone until it sees that it is, or until the note is too old. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.conditions import is_pod_ready
from cluster.api.disruption import (
    ALWAYS_ALLOW,
    covers,
    is_current,
    needs_budget,
    set_disruption_allowed,
    unhealthy_policy,
)
from cluster.api.errors import FieldError, Forbidden, Internal, TooManyRequests
from cluster.api.meta import to_time
from cluster.pb.v1 import core_pb2 as core

MAX_NOTED = 2000
"""Evictions that a budget notes at a time."""
RECOUNT_S = 10
"""When to try again while the budget is being counted."""
CAUSE = "DisruptionBudget"
_WOULD_VIOLATE = "Cannot evict pod as it would violate the pod's disruption budget."


def spend(pod: core.Pod, budgets: Iterable[core.PodDisruptionBudget], now_s: float) -> core.PodDisruptionBudget | None:
    """The budget as it is once the pod is evicted (a copy), or None if no budget is touched.

    `budgets` are those of the pod's namespace, at least. Raises TooManyRequests, Internal, Forbidden if the pod must
    stay.
    """
    if not needs_budget(pod):
        return None
    covering = [budget for budget in budgets if covers(budget, pod)]
    if not covering:
        return None
    if len(covering) > 1:
        names = ", ".join(sorted(budget.metadata.name for budget in covering))
        raise Internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            causes=[FieldError("", f"pod {pod.metadata.name} is covered by {names}", CAUSE)],
        )
    (budget,) = covering
    if not is_pod_ready(pod) and _may_go_unhealthy(budget):
        return None
    return _spent(budget, pod.metadata.name, now_s)


def _may_go_unhealthy(budget: core.PodDisruptionBudget) -> bool:
    status = budget.status
    return unhealthy_policy(budget) == ALWAYS_ALLOW or status.currentHealthy >= status.desiredHealthy > 0


def _spent(budget: core.PodDisruptionBudget, pod: str, now_s: float) -> core.PodDisruptionBudget:
    name, status = budget.metadata.name, budget.status
    if not is_current(budget):
        why = f"The disruption budget {name} is still being processed by the server."
        raise TooManyRequests(_WOULD_VIOLATE, causes=[FieldError("", why, CAUSE)], retry_after_s=RECOUNT_S)
    if len(status.disruptedPods) > MAX_NOTED:
        raise Forbidden(
            f'poddisruptionbudgets "{name}" is forbidden: DisruptedPods map too big - too many evictions not confirmed'
            " by PDB controller"
        )
    if status.disruptionsAllowed <= 0:
        needs = f"needs {status.desiredHealthy} healthy pods and has {status.currentHealthy} currently"
        raise TooManyRequests(_WOULD_VIOLATE, causes=[FieldError("", f"The disruption budget {name} {needs}", CAUSE)])
    spent = core.PodDisruptionBudget()
    spent.CopyFrom(budget)
    spent.status.disruptionsAllowed -= 1
    spent.status.disruptedPods[pod].CopyFrom(to_time(now_s))
    if not spent.status.disruptionsAllowed:
        set_disruption_allowed(spent.status, now_s)
    return spent
