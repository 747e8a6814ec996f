"""Which pods to delete first when there are too many.

Kubernetes' order: a pod that does less goes before one that does more. First whoever differs decides:

  1 not on any node              before  placed
  2 Pending                      before  Unknown  before  Running
  3 not ready                    before  ready
  4 lower deletion cost          before  higher (annotation controller.kubernetes.io/pod-deletion-cost, default 0)
  5 more ready siblings on node  before  fewer
  6 ready for a shorter time     before  longer
  7 more restarts                before  fewer
  8 newer                        before  older

and last, so that the order never depends on luck, the greater name. Each row is one element of a sort key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cluster.api.conditions import get_condition, is_pod_ready
from cluster.api.meta import from_time
from cluster.api.pods import PENDING, RUNNING, UNKNOWN
from cluster.pb.v1 import core_pb2 as core

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation with a number: pods with a lower one are deleted first. What is not an int32 counts as 0."""

_PHASE_RANK = {PENDING: 0, "": 0, UNKNOWN: 1, RUNNING: 2}
_INT32 = range(-(2**31), 2**31)


def deletion_order(pods: Iterable[core.Pod], siblings: Iterable[core.Pod]) -> list[core.Pod]:
    """The pods, first to be deleted first.

    `siblings` are all active pods that do the same work, `pods` among them: only they count for row 5.
    """
    crowd = Counter(pod.spec.nodeName for pod in siblings if pod.spec.nodeName and is_pod_ready(pod))
    by_name = sorted(pods, key=lambda pod: pod.metadata.name, reverse=True)
    return sorted(by_name, key=lambda pod: _rank(pod, crowd[pod.spec.nodeName]))


def _rank(pod: core.Pod, ready_on_node: int) -> tuple[float, ...]:
    """Smaller is deleted earlier."""
    ready = is_pod_ready(pod)
    return (
        bool(pod.spec.nodeName),
        _PHASE_RANK.get(pod.status.phase, 2),
        ready,
        deletion_cost(pod),
        -ready_on_node,
        -ready_since(pod) if ready else 0.0,
        -max((status.restartCount for status in pod.status.containerStatuses), default=0),
        -from_time(pod.metadata.creationTimestamp),
    )


def deletion_cost(pod: core.Pod) -> int:
    """The pod's deletion cost; 0 if there is none that makes sense."""
    text = pod.metadata.annotations.get(DELETION_COST, "0")
    try:
        cost = int(text)
    except ValueError:
        return 0
    return cost if cost in _INT32 else 0


def ready_since(pod: core.Pod) -> float:
    """When the pod became ready, in seconds since 1970; only meaningful for a ready pod."""
    condition = get_condition(pod.status, "Ready")
    return from_time(condition.lastTransitionTime) if condition is not None else 0.0
