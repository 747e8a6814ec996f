"""Taints: which ones a node shall carry, and how long a pod puts up with them.

A table gives the taints that follow from the state of a node; all other taints (people's own) are left as they are.
NoSchedule taints follow the state at once. The NoExecute taint of a failed node evicts its pods, so it is added only
when the breaker allows it.

  Ready        NoSchedule      NoExecute (if allowed)
  True         -               -
  False        not-ready       not-ready
  Unknown      unreachable     unreachable
  (none yet)   not-ready       -
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.api.conditions import FALSE, TRUE, UNKNOWN, get_condition
from cluster.api.meta import to_time
from cluster.pb.v1 import core_pb2 as core

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
}
"""Taint of each condition that keeps new pods away."""

NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"
_OURS = {(key, NO_SCHEDULE) for key in (NOT_READY, UNREACHABLE, UNSCHEDULABLE, *PRESSURES.values())} | {
    (NOT_READY, NO_EXECUTE),
    (UNREACHABLE, NO_EXECUTE),
}


def ready_status(node: core.Node) -> str:
    """ "True", "False", "Unknown", or "" if the node has never said."""
    condition = get_condition(node.status, "Ready")
    return condition.status if condition is not None else ""


def is_marked_for_eviction(node: core.Node) -> bool:
    """The node carries a NoExecute taint of ours."""
    return any((taint.key, taint.effect) in _OURS and taint.effect == NO_EXECUTE for taint in node.spec.taints)


def wanted_taints(node: core.Node, *, evict: bool, now_s: float) -> list[core.Taint]:
    """All taints that the node shall carry: other people's, in their order, then ours.

    `evict`: NoExecute is allowed. A taint that is there already keeps its timeAdded (wall clock).
    """
    wanted = _wanted(node, evict)
    present = {(taint.key, taint.effect): taint for taint in node.spec.taints}
    others = [taint for taint in node.spec.taints if (taint.key, taint.effect) not in _OURS]
    return others + [
        present.get((key, effect)) or core.Taint(key=key, effect=effect, timeAdded=to_time(now_s))
        for key, effect in wanted
    ]


def _wanted(node: core.Node, evict: bool) -> list[tuple[str, str]]:
    ready = ready_status(node)
    wanted: list[tuple[str, str]] = []
    if ready != TRUE:
        key = UNREACHABLE if ready == UNKNOWN else NOT_READY
        wanted.append((key, NO_SCHEDULE))
        if evict and ready in (FALSE, UNKNOWN):
            wanted.append((key, NO_EXECUTE))
    if node.spec.unschedulable:
        wanted.append((UNSCHEDULABLE, NO_SCHEDULE))
    for condition, key in PRESSURES.items():
        found = get_condition(node.status, condition)
        if found is not None and found.status == TRUE:
            wanted.append((key, NO_SCHEDULE))
    return wanted


def same_taints(left: Iterable[core.Taint], right: Iterable[core.Taint]) -> bool:
    """Equal but for their order and timeAdded."""
    return _identities(left) == _identities(right)


def _identities(taints: Iterable[core.Taint]) -> list[tuple[str, str, str]]:
    return sorted((taint.key, taint.value, taint.effect) for taint in taints)


def no_execute(taints: Iterable[core.Taint]) -> list[core.Taint]:
    """The taints that drive pods away."""
    return [taint for taint in taints if taint.effect == NO_EXECUTE]


def tolerates(toleration: core.Toleration, taint: core.Taint) -> bool:
    """Kubernetes' rule: an empty effect means every effect, an empty key with Exists means every key."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.operator in ("", "Equal") and toleration.value == taint.value


def stay_s(pod: core.Pod, taints: Sequence[core.Taint]) -> float | None:
    """How long the pod may stay under these NoExecute taints: None for ever, 0 not at all.

    A taint that nothing tolerates ends the stay at once; otherwise the shortest tolerationSeconds of all tolerations
    that were needed counts, and one without tolerationSeconds sets no limit.
    """
    limits: list[float] = []
    for taint in taints:
        tolerations = [toleration for toleration in pod.spec.tolerations if tolerates(toleration, taint)]
        if not tolerations:
            return 0.0
        limits += [
            float(max(0, toleration.tolerationSeconds))
            for toleration in tolerations
            if toleration.HasField("tolerationSeconds")
        ]
    return min(limits, default=None)
