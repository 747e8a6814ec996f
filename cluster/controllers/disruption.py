"""How many pods a disruption budget lets go: its status, reckoned from its pods and who makes them. Pure.

Worked example, a budget `minAvailable: 80%` over the five replicas of one controller, of which four are ready:

    expectedPods      5    what the controllers of its pods are told to keep
    desiredHealthy    4    80 % of 5, rounded up
    currentHealthy    4    ready, and not on their way out
    disruptionsAllowed 0   4 - 4

Kubernetes' rules (pkg/controller/disruption/disruption.go): a number as minAvailable is taken as it is, and then the
pods that there are are those expected; shares, and maxUnavailable, are of what the pods' controllers are told to keep.
Pods without a controller are not expected by anybody then, and that is said. An evicted pod counts as gone from the
moment the master let it go (`disruptedPods`) until it is seen going, or for DISRUPTION_LIMIT_S.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.api.conditions import is_pod_ready
from cluster.api.disruption import covers, set_disruption_allowed
from cluster.api.meta import from_time, is_terminating
from cluster.api.owners import controller_of
from cluster.pb.v1 import core_pb2 as core

DISRUPTION_LIMIT_S = 120.0
"""An evicted pod whose end nobody sees counts as there again. Kubernetes' number."""


@dataclass(frozen=True, slots=True)
class Count:
    """What was reckoned."""

    status: core.PodDisruptionBudgetStatus
    unmanaged: tuple[str, ...] = ()
    """Pods without a controller, by name, of a budget that asks for shares: nobody says how many there should be."""
    overdue: tuple[str, ...] = ()
    """Pods that were evicted and, though time enough has passed, are not going."""
    again_at_s: float | None = None
    """When it has to be reckoned anew though nothing else happens, in seconds since 1970."""


def count(
    budget: core.PodDisruptionBudget,
    pods: Iterable[core.Pod],
    controllers: Mapping[str, core.ReplicationController],
    now_s: float,
) -> Count:
    """The budget's status now. `pods`: those of its namespace, at least; `controllers`: the controllers by uid.

    Conditions keep their transition times. `now_s` is in seconds since 1970.
    """
    mine = sorted((pod for pod in pods if covers(budget, pod)), key=lambda pod: pod.metadata.name)
    noted, overdue, again_at_s = _still_noted(budget, mine, now_s)
    healthy = sum(is_pod_ready(pod) and not is_terminating(pod) and pod.metadata.name not in noted for pod in mine)
    expected, desired, unmanaged = _wanted(budget.spec, mine, controllers)
    status = core.PodDisruptionBudgetStatus()
    status.conditions.extend(budget.status.conditions)
    status.observedGeneration = budget.metadata.generation
    status.currentHealthy, status.desiredHealthy, status.expectedPods = healthy, desired, expected
    status.disruptionsAllowed = max(0, healthy - desired) if expected > 0 else 0
    for name in noted:
        status.disruptedPods[name].CopyFrom(budget.status.disruptedPods[name])
    set_disruption_allowed(status, now_s)
    return Count(status, unmanaged, overdue, again_at_s)


def _still_noted(
    budget: core.PodDisruptionBudget, pods: list[core.Pod], now_s: float
) -> tuple[list[str], tuple[str, ...], float | None]:
    """Evicted pods whose end has not been seen; those that should have been gone; when the first note is too old."""
    here = {pod.metadata.name: pod for pod in pods}
    noted, overdue, due_s = [], [], []
    for name in sorted(budget.status.disruptedPods):
        pod = here.get(name)
        if pod is None or is_terminating(pod):
            continue
        until_s = from_time(budget.status.disruptedPods[name]) + DISRUPTION_LIMIT_S
        if until_s <= now_s:
            overdue.append(name)
        else:
            noted.append(name)
            due_s.append(until_s)
    return noted, tuple(overdue), min(due_s, default=None)


def _wanted(
    spec: core.PodDisruptionBudgetSpec, pods: list[core.Pod], controllers: Mapping[str, core.ReplicationController]
) -> tuple[int, int, tuple[str, ...]]:
    """Expected pods, healthy pods desired, and pods that nobody expects."""
    if spec.HasField("minAvailable") and spec.minAvailable.type == 0:
        return len(pods), spec.minAvailable.intVal, ()
    replicas: dict[str, int] = {}
    unmanaged = []
    for pod in pods:
        owner = controller_of(pod)
        if owner is None:
            unmanaged.append(pod.metadata.name)
        elif owner.uid in controllers:  # else it was deleted, and its pods go or have been left to themselves
            replicas[owner.uid] = controllers[owner.uid].spec.replicas
    expected = sum(replicas.values())
    if spec.HasField("minAvailable"):
        return expected, _share(spec.minAvailable, expected), tuple(unmanaged)
    return expected, max(0, expected - _share(spec.maxUnavailable, expected)), tuple(unmanaged)


def _share(value: core.IntOrString, whole: int) -> int:
    """A number as it is; a percentage of the whole, rounded up."""
    if value.type == 0:
        return value.intVal
    return -(-int(value.strVal.removesuffix("%")) * whole // 100)
